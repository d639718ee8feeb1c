"""Command line: ``captum-lkn text``, ``image``, ``probe``, ``show`` and ``demo``.

``app`` declares the commands and imports typer only, so that ``--help`` and ``--version`` are quick; ``commands`` does
the work.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it with one line, also while typer is imported."""
    try:
        from captum_lkn.cli.app import app

        app()
    except KeyboardInterrupt:
        print("Aborted.", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells expect
