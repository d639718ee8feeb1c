"""The sparse AND-OR interactions of several samples, of all masks or of sampled ones."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeAlias, TypeVar, overload

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.accessors import Accessor, Delegate
from captum_lkn._common.arguments import checked
from captum_lkn._common.formats import shortened
from captum_lkn._common.messages import count_of, kind_of, shape_of
from captum_lkn.decomposition.effects import TAU
from captum_lkn.interactions.about import WIDTH, shared_lines
from captum_lkn.interactions.again import decompose_again
from captum_lkn.interactions.frame import to_frame
from captum_lkn.interactions.packing import pack, pack_sampled, unpack, unpack_sampled
from captum_lkn.interactions.rendering import batch_html, batch_rows
from captum_lkn.interactions.sample import Interactions
from captum_lkn.interactions.sampled import SampledInteractions

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

__all__ = ["AnyBatch", "Batch", "InteractionsBatch", "SampledBatch"]

S = TypeVar("S", bound="Interactions | SampledInteractions")

_SHOWN = 10


class Batch(Sequence[S], Generic[S]):
    """Sequence of the interactions of several samples, from all masks or from sampled ones."""

    _of: type[S]
    _schema: str
    _pack: Callable[[Sequence[Mapping[str, Any]]], tuple[dict[str, Tensor], dict[str, Any]]]
    _unpack: Callable[[Mapping[str, Tensor], Mapping[str, Any]], list[dict[str, Any]]]

    def __init__(self, samples: Iterable[S]) -> None:
        wanted = self._of
        if isinstance(samples, Tensor) or not isinstance(samples, Iterable):
            raise TypeError(f"samples must be an iterable of {wanted.__name__}; got {kind_of(samples)}. Give a list")
        self._samples = tuple(samples)
        for b, sample in enumerate(self._samples):
            if not isinstance(sample, wanted):
                article = "an" if wanted is Interactions else "a"
                raise TypeError(f"sample {b} must be {article} {wanted.__name__}; got {kind_of(sample)}")
        if not self._samples:
            raise ValueError("samples must be at least one; got none, from which attributions would have no shape")

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: SupportsIndex) -> S: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: SupportsIndex | slice) -> S | Self:
        if isinstance(index, slice):
            return type(self)(self._samples[index])
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"there is no sample {place} in a batch of {count_of(len(self), 'sample')}")
        return self._samples[place]

    def __iter__(self) -> Iterator[S]:
        return iter(self._samples)

    def shapley_values(self) -> list[Tensor]:
        """Compute the Shapley values of the players of every sample.

        Returns:
            One float64 ``[n]`` a sample.
        """
        return [sample.shapley_values() for sample in self]

    def attributions(self) -> Tensor | tuple[Tensor, ...]:
        """Return the Shapley value of its player at every scalar of the inputs, 0 at the background.

        Returns:
            Tensors ``[B, ...]`` of exactly the inputs' shapes, on their device; a tuple where they were one.

        Raises:
            ValueError: If a sample has no layout, or the samples' inputs differ in shape, dtype, device or
                number.
        """
        each = [sample.attributions() for sample in self]
        forms = [_form(attribution) for attribution in each]
        for b, form in enumerate(forms):
            if form != forms[0]:
                raise ValueError(
                    f"inputs must be alike to stack their attributions; got {form} in sample {b} and {forms[0]} in "
                    "sample 0. Take [sample.attributions() for sample in batch]"
                )
        tuples = [a if isinstance(a, tuple) else (a,) for a in each]
        stacked = tuple(torch.stack(column) for column in zip(*tuples, strict=True))
        return stacked if isinstance(each[0], tuple) else stacked[0]

    @checked()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, self._schema, *self._pack([one.parts() for one in self]))

    @classmethod
    @checked()
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.load` for the errors.

        Args:
            path: The file.

        Returns:
            The batch, bit for bit.
        """
        return files.load(path, cls._schema, lambda *content: cls(cls._of(**one) for one in cls._unpack(*content)))

    def __repr__(self) -> str:
        about = [sample.about for sample in self]
        lines = [f"{type(self).__name__} of {count_of(len(self), 'sample')}"]
        lines += shared_lines(about)
        width = len(str(min(len(self), _SHOWN) - 1))
        for b, sample in enumerate(self._samples[:_SHOWN]):
            lines.append(f"{b:>{width}}  {sample.summary(WIDTH - width - 4)}")
            if about[b].text:
                lines.append(f"{'':{width}}  {shortened(about[b].text, WIDTH - width - 4)}")
        if len(self) > _SHOWN:
            lines.append(f"... and {len(self) - _SHOWN} more")
        return "\n  ".join(lines)


class InteractionsBatch(Batch[Interactions]):
    """The interactions of B samples, one after the other; immutable.

    Samples may have different players, and different numbers of them.

    Args:
        samples: At least one :class:`Interactions`.

    Raises:
        TypeError: If something else is among the samples.
        ValueError: If there are none.

    Example:
        >>> from captum_lkn.decomposition import decompose
        >>> tables = torch.tensor([[0.5, 0.5, 2.0, -1.0], [0.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
        >>> batch = InteractionsBatch(
        ...     Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and")) for v in tables
        ... )
        >>> batch
        InteractionsBatch of 2 samples
          0  v +0.50 -> -1.00; not & good -3.00; 2 salient of 2^2
          1  v +0.00 -> +3.00; good +2.00; 2 salient of 2^2
        >>> print(batch[1].top(1)[0])
        good  +2.00
        >>> len(batch[:1])
        1
    """

    plot = Accessor("captum_lkn.plot.accessors", "INTERACTIONS_BATCH")
    """Pictures as methods, such as ``batch.plot.summary()``; see :mod:`captum_lkn.plot`."""

    report = Delegate("captum_lkn.report.pages", "report_batch")
    """A page in one file: ``batch.report("batch.html")``; see :func:`captum_lkn.report.pages.report_batch`."""

    _of = Interactions
    _schema = "InteractionsBatch"
    _pack, _unpack = staticmethod(pack), staticmethod(unpack)

    @checked("above_kappa", "relative")
    def refit(self, tau: float = TAU, relative: bool = True, *, above_kappa: bool = False) -> InteractionsBatch:
        """Fit the salient effects of every sample anew to its values; see :meth:`Interactions.refit`.

        Args:
            tau: As in :meth:`Interactions.salient`, like the others.
            relative: As there.
            above_kappa: As there.

        Returns:
            A batch of refitted interactions.

        Raises:
            ValueError: As there.
        """
        return InteractionsBatch(one.refit(tau, relative, above_kappa=above_kappa) for one in self)

    @checked()
    def decompose(self, **options: Any) -> InteractionsBatch:
        """Decompose the value tables again with other options; no forward is run.

        Args:
            **options: Options of :class:`captum_lkn.DecompositionOptions` that replace those of each sample. Without
                ``noise`` and ``kappa`` each sample keeps its own kappa.

        Returns:
            The same samples with other effects; refitted ones are refitted again.

        Raises:
            TypeError: An option that does not exist, or of the wrong type.
            ValueError: An option out of range.

        Warns:
            UserWarning: As :func:`captum_lkn.decompose`.

        Example:
            >>> from captum_lkn import AndOrInteraction
            >>> method = AndOrInteraction(lambda x: x.amax(1), score="logit", noise=0)
            >>> found = method.attribute(torch.ones(1, 2))  # either of two players will do
            >>> [one.kind for one in found[0].top()], [one.kind for one in found.decompose(kind="and")[0].top()]
            (['or'], ['and', 'and', 'and'])
        """
        return InteractionsBatch(decompose_again(self, options))

    def to_frame(self) -> pd.DataFrame:
        """Return all effects of nonempty sets that are not exactly 0, sample by sample, the strongest first.

        Returns:
            A DataFrame with the columns sample (0 to B - 1), explained (the class by name and index), text,
            continuation, kind, players (a tuple of labels, repeated ones told apart), members (a tuple of their
            numbers), order, effect and above_kappa (whether its absolute value is).

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame((sample.provenance, sample.kappa, sample.top(None)) for sample in self)

    def _repr_html_(self) -> str:
        about = [sample.about for sample in self]
        rows = batch_rows([sample.contents(1) for sample in self._samples[:_SHOWN]])
        more = f", the first {_SHOWN}" if len(self) > _SHOWN else ""
        head = [f"{type(self).__name__} of {count_of(len(self), 'sample')}{more}", *shared_lines(about)]
        return batch_html(head, rows)


class SampledBatch(Batch[SampledInteractions]):
    """The interactions of B samples from sampled masks, one after the other; immutable.

    Args:
        samples: At least one :class:`SampledInteractions`.

    Raises:
        TypeError: If something else is among the samples.
        ValueError: If there are none.

    Example:
        >>> from captum_lkn.decomposition import Effects
        >>> effects = Effects.of(2, [("and", (0, 1), -3.0)])
        >>> one = SampledInteractions(("not", "good"), effects, effects.values.expand(10, 1), (0.99, 0.98), 0.0, -3.0)
        >>> SampledBatch([one])
        SampledBatch of 1 sample
          0  R^2 0.980; v +0.00 -> -3.00; not & good -3.00; 1 salient
    """

    plot = Accessor("captum_lkn.plot.accessors", "INTERACTIONS_BATCH")
    """Pictures as methods, such as ``batch.plot.summary()``; see :mod:`captum_lkn.plot`."""

    report = Delegate("captum_lkn.report.pages", "report_batch")
    """A page in one file: ``batch.report("batch.html")``; see :func:`captum_lkn.report.pages.report_batch`."""

    _of = SampledInteractions
    _schema = "SampledBatch"
    _pack, _unpack = staticmethod(pack_sampled), staticmethod(unpack_sampled)

    def to_frame(self) -> pd.DataFrame:
        """Return all effects of nonempty sets, sample by sample, the strongest first.

        Returns:
            A DataFrame with the columns of :meth:`SampledInteractions.to_frame`; sample is from 0 to B - 1.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame((sample.provenance, None, sample.top(None)) for sample in self)

    def _repr_html_(self) -> str:
        shown = self._samples[:_SHOWN]
        worst = {"R^2": [f"{sample.worst_r_squared:.3f}" for sample in shown]}
        more = f", the first {_SHOWN}" if len(self) > _SHOWN else ""
        head = [f"{type(self).__name__} of {count_of(len(self), 'sample')}{more}"]
        return batch_html(head, worst | batch_rows([sample.contents(1) for sample in shown]))


AnyBatch: TypeAlias = InteractionsBatch | SampledBatch
"""The interactions of several samples, from all masks or from sampled ones."""


def _form(attribution: Tensor | tuple[Tensor, ...]) -> Any:
    """Describe the form that attributions must share to be stacked."""
    if isinstance(attribution, tuple):
        return f"({', '.join(map(_form, attribution))},)"
    return f"{attribution.dtype} {shape_of(attribution)} on {attribution.device}"
