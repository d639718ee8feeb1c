"""Import of pandas, where a data frame is asked for."""

from __future__ import annotations

from typing import Any

__all__ = ["import_pandas"]


def import_pandas() -> Any:
    """Return the module pandas, which is an extra.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'captum-lkn[frame]'") from error
    return pandas
