"""The command line: ``captum-lkn text``, ``image``, ``probe`` and ``demo``."""

from captum_lkn.cli.app import app

__all__ = ["app"]
