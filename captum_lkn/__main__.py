"""``python -m captum_lkn`` is the command line."""

from captum_lkn.cli import app

if __name__ == "__main__":
    app()
