"""From what a model returns to one number a row: heads, targets, scores."""
