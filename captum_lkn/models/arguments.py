"""The arguments of one forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import kind_of

__all__ = ["Arguments", "Decode", "Fixed", "fresh"]

Decode: TypeAlias = Callable[[tuple[Tensor, ...]], tuple[Any, ...] | Mapping[str, Any]]
"""From masked inputs to the arguments that a forward function takes in their place, such as a data frame: by position,
or by keyword."""


@checked()
@dataclass(frozen=True)
class Fixed:
    """Additional argument of a forward that has no row for each sample.

    As in Captum, a tensor among ``additional_forward_args`` whose first dimension is the batch is taken for a row a
    sample, and goes with the masked copies of that sample. Wrap one that has this length by chance, such as the keys of
    an attention, a temperature ``[1]`` for one sample, or the edges of a graph; it is passed on as it is. An entry of a
    mapping of inputs may be wrapped as well: it is not masked.

    Attributes:
        value: The argument.

    Example:
        >>> import torch
        >>> from captum_lkn import ExactShapleyValues, Fixed
        >>> x, weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 1.0])
        >>> method = ExactShapleyValues(lambda x, weights: (x * weights).sum(1))
        >>> method.attribute(x, additional_forward_args=Fixed(weights))
        tensor([[10.,  2.],
                [30.,  4.]])
    """

    value: Any


@dataclass(frozen=True)
class Arguments:
    """Arguments of a forward function, for any number of rows.

    Attributes:
        inputs: The masked inputs, each ``[R, ...]``.
        names: Their keywords; None passes them by position.
        positional: Further arguments by position, behind the inputs.
        keywords: Further arguments by keyword.
        unmasked: The inputs without a mask, for models whose reading position depends on them; after :meth:`rows` one
            row for each row of the inputs. None means unknown.
        decode: From the inputs to what the forward function takes in their place. None: the inputs themselves.
    """

    inputs: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None
    positional: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    unmasked: tuple[Tensor, ...] | None = None
    decode: Decode | None = None

    def rows(self, samples: Tensor, batch: int) -> Arguments:
        """Return the same arguments, with each further tensor indexed by sample.

        As in Captum, the first dimension of a further tensor is the batch. A tensor of another length, or a
        :class:`Fixed` one, is passed on.

        Args:
            samples: int64 ``[R]``, the sample of each row.
            batch: The number of samples.

        Returns:
            Arguments whose further tensors have R rows.
        """

        def expand(value: Any) -> Any:
            if isinstance(value, Fixed):
                return value.value
            if isinstance(value, Tensor) and value.dim() and value.size(0) == batch:
                return _rows(value, samples.to(value.device))
            return value

        return replace(
            self,
            positional=tuple(expand(value) for value in self.positional),
            keywords={name: expand(value) for name, value in self.keywords.items()},
            unmasked=None if self.unmasked is None else tuple(x[samples.to(x.device)] for x in self.unmasked),
        )

    @property
    def decoded(self) -> tuple[Any, ...] | Mapping[str, Any]:
        """The inputs as the forward function takes them, by position or by keyword."""
        return self.inputs if self.decode is None else self.decode(self.inputs)

    def named_inputs(self) -> dict[str, Tensor]:
        """Return the inputs by keyword; empty where they go by position.

        Raises:
            TypeError: Further arguments go by position, or one has the name of an input.
        """
        if self.names is None:
            return {}
        if self.positional:
            raise TypeError(
                f"the inputs go by keyword ({', '.join(self.names)}), so additional_forward_args must be a "
                f'mapping such as {{"attention_mask": mask}}; got {kind_of(self.positional[0])} by position'
            )
        masked = dict(zip(self.names, self.inputs, strict=True))
        twice = sorted(masked.keys() & self.keywords.keys())
        if twice:
            raise TypeError(
                f"additional_forward_args must not have {', '.join(twice)}, which the inputs have too: leave it out"
            )
        return masked


def fresh(arguments: Arguments) -> Arguments:
    """Return the same arguments without a history of gradients, and none of inference mode, for another forward."""

    def own(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, Tensor) else value

    return replace(
        arguments,
        inputs=tuple(own(x) for x in arguments.inputs),
        positional=tuple(own(value) for value in arguments.positional),
        keywords={name: own(value) for name, value in arguments.keywords.items()},
        unmasked=None if arguments.unmasked is None else tuple(own(x) for x in arguments.unmasked),
    )


def _rows(value: Tensor, samples: Tensor) -> Tensor:
    """Return rows of a dense, sparse or nested tensor, in its own layout."""
    if value.is_nested:
        parts = value.unbind()
        return torch.nested.as_nested_tensor([parts[i] for i in samples.tolist()], layout=value.layout)
    if value.layout == torch.strided:
        return value[samples]
    if value.layout == torch.sparse_coo:
        return value.index_select(0, samples)
    rows: Tensor = value.to_sparse(layout=torch.sparse_coo).index_select(0, samples)
    return rows.to_sparse(layout=value.layout)
