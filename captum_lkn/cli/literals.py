"""Texts of users on a terminal."""

from __future__ import annotations

from rich.markup import escape

from captum_lkn._common.formats import printable

__all__ = ["literal"]


def literal(text: object) -> str:
    r"""Return a text that the terminal shows as it is: neither markup nor an escape sequence in it acts.

    Example:
        >>> print(literal("[bold]\x1b[2J"))
        \[bold]\x1b[2J
    """
    return "\n".join(escape(printable(line)) for line in str(text).split("\n"))
