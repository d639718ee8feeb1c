"""Masked evaluation: scores of masked copies of the inputs, for the output and for layers."""
