"""Players of a table: its columns, replaced by those of a background data set.

The cells of a data frame may hold anything: text, categories, dates. So the tensor that is masked holds the number of
the row that each cell is taken from, and the data frame is put together for each forward, with its own dtypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_plain, is_number, is_whole
from captum_lkn._common.messages import count_of, kind_of, some_of
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.models.arguments import Decode
from captum_lkn.players.players import Players

__all__ = ["DataFrameLike", "Table", "is_table", "table_players"]


class DataFrameLike(Protocol):
    """Data frame, as far as types go; pandas is not imported for them."""

    columns: Any
    iloc: Any


Table: TypeAlias = DataFrameLike | np.ndarray[Any, Any] | Tensor
"""Rows of columns."""

_EXACT = 1e15  # whole numbers below are shown with all digits

Columns: TypeAlias = Mapping[str, Any] | Sequence[Any] | None


def is_table(given: Any) -> bool:
    """Return whether something is a data frame or a NumPy array ``[B, F]``, which Captum's methods do not take.

    Example:
        >>> is_table(np.ones((2, 3))), is_table(torch.ones(2, 3))
        (True, False)
    """
    return _is_frame(given) or (isinstance(given, np.ndarray) and given.ndim == 2)


@checked("names", "show_values")
def table_players(
    rows: Table,
    background: Any,
    *,
    columns: Columns = None,
    names: Sequence[str] | None = None,
    show_values: bool = True,
) -> Players:
    """Make players of the columns of a table.

    An absent column is replaced by that of a row of the background. With several rows the value of each masked copy is
    the mean of its scores over all of them: the interventional expectation that SHAP and shapiq explain as well.
    Each takes K times as many rows of the model as one baseline; 100 rows are usual.

    Args:
        rows: The samples: a data frame, a NumPy array or a tensor, ``[B, F]``. The forward function gets masked copies
            of the same kind.
        background: What absent columns are replaced by: K rows of the same kind, such as a part of the training data;
            or one row, ``[F]`` or a Series.
        columns: The columns that are players. None: each one. A list of names or numbers: these. A mapping from labels
            to names or numbers, or to lists of them: each entry is one player. The others stay as they are in the
            samples.
        names: The names of the columns of an array or a tensor. None: ``x0``, ``x1`` and so on.
        show_values: Whether the label of a player of one column holds its value, ``"age = 52"``. Without, all samples
            have the same labels, which summaries over samples need.

    Returns:
        The players of the B samples.

    Raises:
        TypeError: Something is of the wrong type, or the background of another kind than the rows.
        ValueError: Columns differ or are not there, there are no rows, or a column is in two players.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"age": [52, 31, 40], "job": ["nurse", "clerk", "cook"]})
        >>> players = table_players(table.iloc[:1], table.iloc[1:])
        >>> players
        Players of 1 sample; masked: int64 [1, 2]
          sample 0, 2 players: age = 52 | job = nurse
        >>> players.decode(players.masked(0, torch.tensor([[True, False]])))[0]
           age    job
        0   52  clerk
    """
    if _is_frame(rows) and names is not None:
        raise TypeError("names must be None for a data frame, which names its columns")
    table = _framed(rows, background) if _is_frame(rows) else _plain(rows, background, names)
    groups = _groups(columns, table.names)
    owner = torch.full((len(table.names),), BACKGROUND, device="cpu")
    for player, (_, members) in enumerate(groups):
        owner[members] = player
    shape = table.inputs.shape
    count = len(table.background)
    labels = tuple(
        tuple(
            f"{label} = {_shown(table.cells[sample][members[0]])}" if show_values and len(members) == 1 else label
            for label, members in groups
        )
        for sample in range(len(table.inputs))
    )
    return Players(
        inputs=(table.inputs,),
        baselines=(table.background[:1].expand(shape),),
        owners=(owner.to(table.inputs.device).expand(shape),),
        labels=labels,
        description={
            "players": "columns",
            "baseline": "one row" if count == 1 else f"{count_of(count, 'row')}, averaged",
        },
        background=(table.background,) if count > 1 else (),
        decode=table.decode,
    )


@dataclass(frozen=True)
class _Form:
    """A table as tensors: what is masked, ``[B, F]``, and what replaces it, ``[K, F]``."""

    inputs: Tensor
    background: Tensor
    names: list[Any]
    cells: list[list[Any]]
    decode: Decode | None


@dataclass(frozen=True)
class _FrameOf:
    """Puts together a data frame out of the numbers of the rows that its cells are taken from."""

    store: Any

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        places = inputs[0].cpu().numpy()
        names = self.store.columns
        taken = {name: self.store[name].array.take(places[:, i]) for i, name in enumerate(names)}
        return (type(self.store)(taken, columns=names),)


def _to_array(inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return tuple(x.cpu().numpy() for x in inputs)


def _is_frame(given: Any) -> bool:
    return hasattr(given, "iloc") and hasattr(given, "columns")


def _framed(rows: Any, background: Any) -> _Form:
    """Number the rows of a data frame and of its background."""
    import pandas as pd

    given = background.to_frame().T.infer_objects() if isinstance(background, pd.Series) else background
    if not _is_frame(given):
        raise TypeError(
            f"background must be a data frame, as the rows are, or one of its rows; got {kind_of(background)}. Give a "
            "part of the training data, such as train.sample(100)"
        )
    if not rows.columns.is_unique:
        raise ValueError(f"rows must have columns of different names; got {some_of(list(rows.columns))}")
    missing = [name for name in rows.columns if name not in given.columns]
    if missing:
        raise ValueError(f"background must have the columns of the rows; {some_of(missing)} are missing")
    _check_rows(len(rows), len(given))
    columns = [_joined(name, rows[name], given[name]) for name in rows.columns]
    store = pd.concat(columns, axis=1)
    places = torch.arange(len(store), device="cpu")[:, None].expand(-1, rows.shape[1]).contiguous()
    cells = rows.astype(object).to_numpy().tolist()
    return _Form(places[: len(rows)], places[len(rows) :], list(rows.columns), cells, _FrameOf(store))


def _joined(name: Any, rows: Any, background: Any) -> Any:
    """Return a column of the rows and the background, in a dtype that holds both: a mean of integers is no integer."""
    import pandas as pd

    mine = rows.dtype
    if isinstance(mine, pd.CategoricalDtype) and mine != background.dtype:
        other = isinstance(background.dtype, pd.CategoricalDtype)
        if other or not background.dropna().isin(mine.categories).all():
            raise ValueError(
                f"background must have the dtype of the rows in column {name!r}, with the same categories; got "
                f"{background.dtype}. Convert it with .astype(rows.dtypes)"
            )
        background = background.astype(mine)
    both = [rows, background]
    if all(pd.api.types.is_numeric_dtype(one) and isinstance(one.dtype, np.dtype) for one in both):
        common = np.result_type(mine, background.dtype)  # pandas makes objects of booleans beside numbers
        both = [one.astype(common) for one in both]
    return pd.concat(both, ignore_index=True)


def _plain(rows: Any, background: Any, names: Sequence[str] | None) -> _Form:
    """Bring an array or a tensor and its background to tensors."""
    kinds = (np.ndarray, Tensor)
    kind = next((kind for kind in kinds if isinstance(rows, kind)), None)
    if kind is Tensor:
        check_plain("rows", rows)
    if kind is None or rows.ndim != 2:
        raise TypeError(f"rows must be a data frame, or an array or a tensor [B, F]; got {_kind(rows)}")
    if isinstance(background, Tensor):
        check_plain("background", background)
    if not isinstance(background, kind) or background.shape[-1:] != rows.shape[1:] or background.ndim > 2:
        raise TypeError(
            f"background must be rows [K, {rows.shape[1]}] or one row, an array or a tensor as the rows are; got "
            f"{_kind(background)}. Give a part of the training data"
        )
    parts: dict[str, Any] = {"rows": rows, "background": background}
    for name, given in parts.items():
        if kind is Tensor:
            check_plain(name, given)
        if kind is np.ndarray and given.dtype.kind not in "fiub":
            raise TypeError(
                f"{name} must be an array of numbers; got {_kind(given)}. Give text and categories as a data frame, "
                "pandas.DataFrame(...), and objects that are numbers as .astype(float)"
            )
    both: list[Any] = [torch.tensor(x, device="cpu") if kind is np.ndarray else x for x in (rows, background)]
    x, absent = both
    absent = absent[None] if absent.dim() == 1 else absent
    _check_rows(len(x), len(absent))
    named = [f"x{i}" for i in range(rows.shape[1])] if names is None else list(names)
    if len(named) != rows.shape[1]:
        raise ValueError(f"names must have one name a column, {rows.shape[1]}; got {len(named)}")
    decode = _to_array if kind is np.ndarray else None
    # A mean of integers is no integer; the precision of floating rows is that of the model.
    dtype = x.dtype if x.is_floating_point() else torch.promote_types(x.dtype, absent.dtype)
    return _Form(x.detach().to(dtype), absent.detach().to(x.device, dtype), named, x.tolist(), decode)


def _check_rows(samples: int, rows: int) -> None:
    if not samples or not rows:
        raise ValueError(f"rows and background must have at least one row each; got {samples} and {rows}")


def _groups(columns: Columns, names: list[Any]) -> list[tuple[str, list[int]]]:
    """Return the label of each player with the places of its columns."""
    if columns is None:
        return [(str(name), [place]) for place, name in enumerate(names)]
    if isinstance(columns, str) or not isinstance(columns, (Mapping, Sequence)):
        raise TypeError(f"columns must be a list of columns, or a mapping from labels to them; got {kind_of(columns)}")
    given = columns.items() if isinstance(columns, Mapping) else [(None, column) for column in columns]
    groups = []
    for label, members in given:
        several = isinstance(members, (list, tuple)) and members not in names
        places = [_place(one, names) for one in (members if several else [members])]
        groups.append((" + ".join(str(names[i]) for i in places) if label is None else str(label), places))
    taken = [place for _, places in groups for place in places]
    if not groups or not all(places for _, places in groups):
        raise ValueError("columns must have a player, and each player a column; got none")
    if len(set(taken)) < len(taken):
        twice = [str(names[place]) for place in sorted(set(taken)) if taken.count(place) > 1]
        raise ValueError(f"columns must have each column once; got {some_of(twice)} twice")
    return groups


def _place(column: Any, names: list[Any]) -> int:
    if column in names:
        return names.index(column)
    if is_whole(column) and 0 <= column < len(names):
        return int(column)
    raise ValueError(f"columns has {column!r}, which is not a column; there are {some_of(names)}")


def _shown(value: Any) -> str:
    """Return a cell as a label shows it: numbers with four digits, whole ones with all."""
    if not is_number(value) or isinstance(value, np.bool_):
        return str(value)
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < _EXACT else f"{number:.4g}"


def _kind(given: Any) -> str:
    return f"an array {given.dtype} {list(given.shape)}" if isinstance(given, np.ndarray) else kind_of(given)
