"""Parts that every package uses: messages, warnings, rounding, number formats, colours, checked files."""
