"""Limits that several packages share, in a module that imports nothing: the command line's help shows them."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_PLAYERS"]

MAX_PLAYERS: Final = 20
"""More players of a sample than this are refused: a table of them has over a million entries, each one forward."""
