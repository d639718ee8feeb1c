"""Continuations of causal language models: their scores, and the tree of masked prompts."""

__all__: list[str] = []
