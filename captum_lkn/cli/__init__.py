"""Command line: ``captum-lkn text``, ``image``, ``probe``, ``study``, ``show`` and ``demo``.

``app`` declares the commands and imports typer only, so that ``--help`` and ``--version`` are quick; ``commands`` does
the work.
"""

from captum_lkn.cli.interrupts import Interrupts

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    with Interrupts() as interrupts, interrupts.imports():
        from captum_lkn.cli.app import app
    app()
