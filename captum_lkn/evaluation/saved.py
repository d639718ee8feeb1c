"""Files of results, and checks of what a file holds."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.checks import is_number, is_whole
from captum_lkn._common.messages import kind_of
from captum_lkn.evaluation.bootstrap import Resampling
from captum_lkn.interactions import Interaction

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Saved", "check_count", "check_parts", "listed_interaction"]


@dataclass(frozen=True, eq=False, repr=False)
class Saved(ABC):
    """A result of tensors and settings that is written to one file.

    Attributes:
        resampling: The settings of the bootstrap.
    """

    resampling: Resampling = field(default_factory=Resampling, kw_only=True)

    def __post_init__(self) -> None:
        given: object = self.resampling
        if not isinstance(given, Resampling):
            raise TypeError(f"resampling must be a Resampling; got {kind_of(given)}")
        given.check()
        self._check()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, type(self).__name__, *self._pack())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.load` for the errors.

        Args:
            path: The file.

        Returns:
            The result, bit for bit.
        """

        def make(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Any:
            rest = dict(metadata)
            resampling = Resampling(*rest.pop("resampling"))
            arguments: dict[str, Any] = cls._unpack(tensors, rest)
            return cls(**arguments, resampling=resampling)

        found: Self = files.load(path, cls.__name__, make)
        return found

    def _pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and metadata by the names of the fields."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
        rest = {name: part for name, part in parts.items() if name not in tensors}
        confidence, resamples, seed = rest["resampling"]
        return tensors, rest | {"resampling": [float(confidence), int(resamples), int(seed)]}

    @classmethod
    def _unpack(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the class, but for ``resampling``, of what :meth:`_pack` returned."""
        known = {each.name for each in fields(cls)} - {"resampling"}
        check_parts({*tensors, *metadata}, known)
        return {**tensors, **metadata}

    @abstractmethod
    def _check(self) -> None:
        """Check that the parts fit each other, as those of a function of this package do.

        Raises:
            TypeError: A part is not of its type.
            ValueError: Parts do not fit.
        """


def check_parts(given: set[str], known: set[str]) -> None:
    """Check that a file has all of its entries, and no others."""
    if given != known:
        raise ValueError(f"it has the entries {sorted(given)}, not {sorted(known)}")


def check_count(name: str, value: Any, least: int) -> None:
    """Check a whole number."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")


def listed_interaction(kind: Any, members: Any, players: Any, effect: Any, share: Any) -> tuple[Interaction, float]:
    """Return a listed interaction and its share as a file holds them."""
    whole = all(is_whole(one) and one >= 0 for one in members) and list(members) == sorted(set(members))
    if kind not in ("and", "or") or not whole or len(members) != len(players) or not members:
        raise ValueError(f"an interaction is a kind, ascending members and their players; got {kind!r}, {members!r}")
    if not all(isinstance(one, str) for one in players) or not is_number(effect) or not 0 <= share <= 1:
        raise ValueError(f"an interaction has players, an effect and a share; got {players!r}, {effect!r}, {share!r}")
    return Interaction(kind, tuple(members), tuple(players), len(members), float(effect)), float(share)
