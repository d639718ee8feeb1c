"""Parts that every room uses: messages, warnings, rounding, number formats, colours, checked files."""
