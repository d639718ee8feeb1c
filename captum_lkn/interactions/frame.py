"""Interactions as a pandas DataFrame; pandas is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captum_lkn.interactions.about import about_of
from captum_lkn.interactions.ranking import Interaction

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_frame"]


def to_frame(samples: Iterable[tuple[Mapping[str, Any], Sequence[Interaction]]]) -> pd.DataFrame:
    """Return a frame with one row an interaction.

    Args:
        samples: The provenance and the interactions of each sample.

    Returns:
        A frame with the columns sample (its number), explained (the class by name and index), text, continuation, kind,
        players (a tuple of labels, repeated ones told apart), members (a tuple of their numbers), order and effect.
        Explained, text and continuation are None where they are not known.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'captum-lkn[frame]'") from error
    rows = [(b, about_of(provenance), one) for b, (provenance, found) in enumerate(samples) for one in found]
    columns: dict[str, tuple[list[Any], str]] = {
        "sample": ([b for b, _, _ in rows], "int64"),
        "explained": ([about.explained or None for _, about, _ in rows], "object"),
        "text": ([about.text or None for _, about, _ in rows], "object"),
        "continuation": ([about.continuation or None for _, about, _ in rows], "object"),
        "kind": ([one.kind for *_, one in rows], "object"),
        "players": ([one.players for *_, one in rows], "object"),
        "members": ([one.members for *_, one in rows], "object"),
        "order": ([one.order for *_, one in rows], "int64"),
        "effect": ([one.effect for *_, one in rows], "float64"),
    }
    # With a dtype each, so that no effects at all make the same columns.
    return pd.DataFrame({name: pd.Series(values, dtype=dtype) for name, (values, dtype) in columns.items()})
