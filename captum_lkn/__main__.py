"""``python -m captum_lkn`` runs the command line."""

from captum_lkn.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
