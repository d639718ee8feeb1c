"""Interactions as a pandas DataFrame; pandas is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from captum_lkn.interactions.ranking import Interaction

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_frame"]


def to_frame(samples: Iterable[Sequence[Interaction]]) -> pd.DataFrame:
    """One row an interaction.

    Args:
        samples: For each sample its interactions.

    Returns:
        A frame with the columns sample (its number), kind, players (a tuple of labels), order, effect.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'captum-lkn[frame]'") from error
    rows = [(b, one) for b, found in enumerate(samples) for one in found]
    return pd.DataFrame(
        {
            # With a dtype each, so that no effects at all make the same columns.
            "sample": pd.Series([b for b, _ in rows], dtype="int64"),
            "kind": pd.Series([one.kind for _, one in rows], dtype="object"),
            "players": pd.Series([one.players for _, one in rows], dtype="object"),
            "order": pd.Series([one.order for _, one in rows], dtype="int64"),
            "effect": pd.Series([one.effect for _, one in rows], dtype="float64"),
        }
    )
