"""Calling any model, naming and reading its layers, and all that is particular to Hugging Face."""
