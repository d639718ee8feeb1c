"""Players: the parts of an input that can be absent, and their replacements.

A *player* is a group of scalars of the input that is present or absent as one: a word with its sub-tokens, a
patch of pixels, a column of a table. :func:`players_from_mask` makes players from Captum's ``inputs``,
``baselines`` and ``feature_mask``; :func:`captum_lkn.players.text.text_players` makes them from a sentence. The
evaluation of masked copies of a sample needs :class:`Players` only, whatever made them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common import html
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_plain, is_floating, is_tensor_of
from captum_lkn._common.messages import SHOWN, count_of, dtype_of, kind_of, shape_of, some_of
from captum_lkn.interactions.labels import distinct_labels
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.models.arguments import Decode
from captum_lkn.players.arguments import (
    fill_baseline,
    fit_mask,
    ids_by_sample,
    label_players,
    number_players,
    one_each,
    split_inputs,
    warn_of_gaps,
)
from captum_lkn.players.positions import behind_the_inputs

__all__ = ["BACKGROUND", "Players", "compact", "players_from_mask"]


@checked(
    "background", "baselines", "constants", "decode", "description", "inputs", "is_tuple", "labels", "names", "owners"
)
@dataclass(frozen=True, eq=False)
class Players:
    """Parts of an input that can be absent, and their replacements, for a batch of B samples.

    Samples may have different numbers of players: sample i has ``sizes[i]`` of them, numbered from 0.

    Attributes:
        inputs: The tensors that are masked, each ``[B, ...]``.
        baselines: The replacements of absent scalars: one tensor an input, of its shape, dtype and device.
        owners: One int64 tensor an input, of its shape: the player that owns each scalar, or -1 if the
            scalar is background and never masked. They may be expanded views; do not write to them.
        labels: For each sample, one label a player. Repeated ones are numbered where they are shown: ``it[2]``.
        names: The keyword by which the forward function takes each input; None if it goes by position.
        constants: Further keyword arguments of the forward function, the same in all masked copies.
        is_tuple: Whether the inputs came as a tuple, and attributions should go back as one.
        description: The origin of the players, for provenance; JSON can hold it.
        background: Rows that replace absent scalars in turn, ``[K, ...]`` an input: values are averaged over them, and
            `baselines` are the first. Empty: values are those under the baselines.
        decode: A function from masked inputs to the arguments that the forward function takes in their place, where
            these are not tensors: a data frame, an array. None: the tensors themselves.

    Raises:
        ValueError: If the parts do not fit together.

    Example:
        >>> players = players_from_mask(torch.tensor([[1.0, 2.0, 3.0]]), feature_mask=torch.tensor([0, 0, 1]))
        >>> players.masked(0, torch.tensor([[True, False], [False, True]]))
        (tensor([[1., 2., 0.],
                [0., 0., 3.]]),)
        >>> players.spread(0, torch.tensor([0.5, -1.0]))
        (tensor([[ 0.5000,  0.5000, -1.0000]]),)
    """

    inputs: tuple[Tensor, ...]
    baselines: tuple[Tensor, ...]
    owners: tuple[Tensor, ...]
    labels: tuple[tuple[str, ...], ...]
    names: tuple[str, ...] | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    is_tuple: bool = False
    description: Mapping[str, Any] = field(default_factory=dict)
    background: tuple[Tensor, ...] = ()
    decode: Decode | None = None

    def __post_init__(self) -> None:
        named = self.inputs if self.names is None else self.names
        counts = [len(self.inputs), len(self.baselines), len(self.owners), len(named)]
        if len(set(counts)) > 1:
            raise ValueError(f"inputs, baselines, owners and names must be equally many; got {counts}")
        for x, baseline, owner in zip(self.inputs, self.baselines, self.owners, strict=True):
            if not (x.shape == baseline.shape == owner.shape and len(x) == len(self)):
                raise ValueError(
                    f"an input has shape {shape_of(x)}, its baseline {shape_of(baseline)}, its owners "
                    f"{shape_of(owner)}, and {len(self)} samples have labels. These must agree"
                )
            if owner.dtype != torch.int64:
                raise TypeError(f"owners must be int64; got {kind_of(owner)}")
            if x.dtype != baseline.dtype:
                raise ValueError(f"an input of {dtype_of(x)} with a baseline of {dtype_of(baseline)}. Give one dtype")
            used = compact(owner)
            size = torch.tensor(self.sizes, device=owner.device).reshape(-1, *(1,) * (owner.dim() - 1))
            if bool(((used < BACKGROUND) | (used >= size)).any()):
                raise ValueError(f"owners must be -1 or a player's number; the samples have {self.sizes} players")
        self._check_background()

    def _check_background(self) -> None:
        rows = {len(x) for x in self.background}
        fits = len(self.background) == len(self.inputs) and all(
            x.shape[1:] == b.shape[1:] and x.dtype == b.dtype
            for x, b in zip(self.inputs, self.background, strict=False)
        )
        if self.background and (not fits or len(rows) > 1 or 0 in rows):
            raise ValueError(
                f"background must have one tensor [K, ...] an input, of its dtype; got "
                f"{', '.join(map(kind_of, self.background))} for {', '.join(map(kind_of, self.inputs))}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property  # with thousands of samples, counting anew at each use takes seconds
    def sizes(self) -> tuple[int, ...]:
        """The number of players of each sample."""
        return tuple(len(labels) for labels in self.labels)

    @checked("sample")
    def masked(self, sample: int, masks: Tensor) -> tuple[Tensor, ...]:
        """Return copies of one sample in which the absent players are replaced by their baselines.

        Scalars are selected, not multiplied: what is selected arrives bit for bit, and an inf or a NaN in
        what is not selected leaves no trace.

        Args:
            sample: Which sample, from 0.
            masks: Bool ``[M, n]``, n the sample's number of players: True where the player is present.

        Returns:
            One tensor an input, ``[M, ...]``, with the input's dtype and device.

        Raises:
            TypeError: If `masks` is not a bool tensor.
            ValueError: If `masks` is not ``[M, n]`` or there is no such sample.
        """
        n = self._size(sample)
        if not is_tensor_of(masks, torch.bool):
            raise TypeError(f"masks must be a bool tensor, True where a player is present; got {kind_of(masks)}")
        if masks.dim() != 2 or masks.shape[1] != n:
            raise ValueError(f"masks must be [M, {n}], sample {sample} has {n} players; got {shape_of(masks)}")
        return self.masked_rows(torch.full((len(masks),), sample, device="cpu"), masks)

    @checked("baselines", "draws", "masks", "samples")
    def masked_rows(
        self,
        samples: Tensor,
        masks: Tensor,
        baselines: tuple[Tensor, ...] | None = None,
        draws: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return masked copies of any samples, one a row; see :meth:`masked`.

        Args:
            samples: Int64 ``[R]`` on the CPU: the sample that each row is a copy of, from 0.
            masks: Bool ``[R, n_max]``: True where the player is present. Columns from the number of players of a row's
                sample on are not read.
            baselines: Tensors that replace the players' own baselines: one an input, which broadcasts to it.
            draws: Int64 ``[R]`` on the CPU: the row of the background that replaces absent scalars of each row. None:
                the baselines.

        Returns:
            One tensor an input, ``[R, ...]``, with the input's dtype and device.
        """
        self._check_rows(samples, masks, draws)
        if baselines is not None and len(baselines) != len(self.inputs):
            raise ValueError(f"baselines must be one an input, {len(self.inputs)}; got {len(baselines)}")
        # Rows of one sample share it by broadcasting: nothing but the result is materialised.
        same = len(samples) > 0 and bool((samples == samples[0]).all())
        at = samples[:1] if same else samples
        # The background's index, -1, reads the last column: always present.
        present = torch.cat([masks, masks.new_ones(len(masks), 1)], dim=1)
        copies = []
        replacements = self.background if draws is not None else self.baselines if baselines is None else baselines
        for x, baseline, owner in zip(self.inputs, replacements, self.owners, strict=True):
            here, small = at.to(x.device), compact(owner)
            own = small if len(small) == 1 else small[here]
            kept = present.to(x.device)
            if len(own) == 1:
                chosen = kept[:, own[0]]
            else:
                rows = torch.arange(len(own), device=x.device).reshape(-1, *(1,) * (own.dim() - 1))
                chosen = kept[rows, own]
            absent = baseline.expand(x.shape)[here] if draws is None else baseline[draws.to(x.device)]
            copies.append(torch.where(chosen, x[here], absent))
        return tuple(copies)

    def _check_rows(self, samples: Tensor, masks: Tensor, draws: Tensor | None) -> None:
        if samples.dtype != torch.int64 or samples.dim() != 1:
            raise TypeError(f"samples must be int64 [R]; got {kind_of(samples)}")
        if masks.dtype != torch.bool or masks.dim() != 2 or len(masks) != len(samples):
            raise TypeError(f"masks must be bool [{len(samples)}, n]; got {kind_of(masks)}")
        if draws is not None and (draws.dtype != torch.int64 or not self.background):
            raise TypeError(f"draws must be int64 [R], of players with a background; got {kind_of(draws)}")

    @checked("sample")
    def spread(self, sample: int, values: Tensor) -> tuple[Tensor, ...]:
        """Write each player's value to every scalar that it owns, and 0 to the background.

        Args:
            sample: Which sample, from 0.
            values: Floating ``[n]``, one value a player.

        Returns:
            One tensor an input, ``[1, ...]`` in the input's shape, with the dtype of `values` and on the
            input's device (convert float64 first where the device has none).

        Raises:
            TypeError: If `values` is not a floating tensor.
            ValueError: If `values` is not ``[n]`` or there is no such sample.
        """
        n = self._size(sample)
        if not is_floating(values):
            raise TypeError(f"values must be a floating tensor, one value a player; got {kind_of(values)}")
        check_plain("values", values)
        if values.shape != (n,):
            raise ValueError(f"values must be [{n}], sample {sample} has {n} players; got {shape_of(values)}")
        padded = torch.cat([values, values.new_zeros(1)])  # as in `masked`: index -1 reads the background's 0
        return tuple(padded.to(owner.device)[owner[sample : sample + 1]] for owner in self.owners)

    @checked()
    def captum_arguments(self, forward_func: Callable[..., Any] | None = None) -> dict[str, Any]:
        """Return the players as arguments of Captum's own perturbation methods.

        Captum has no background: here the background is one more feature, whose baseline is the input itself, so that
        its attribution is 0. Ids are those of the players.

        Args:
            forward_func: The model, or the function that Captum's method gets. Captum passes all arguments by position,
                and those of a mapping have names only: they go in the order of this function's parameters. Not needed
                for a tensor or a tuple.

        Returns:
            ``inputs``, ``baselines`` and ``feature_mask``, each a tensor or a tuple as the inputs came; with constants
            also ``additional_forward_args``, a tuple, with the default of each parameter between them.

        Raises:
            TypeError: The arguments have names, and `forward_func` is missing or does not take them by position, what
                is masked first; the players have a background or become a table.

        Example:
            >>> from captum.attr import ShapleyValues
            >>> players = players_from_mask(torch.tensor([[1.0, 2.0, 3.0]]), feature_mask=torch.tensor([0, -1, 0]))
            >>> ShapleyValues(lambda x: x.sum(1)).attribute(**players.captum_arguments())
            tensor([[4., 0., 4.]])
            >>> players = players_from_mask({"x": torch.tensor([[1.0, 2.0]]), "power": 2})
            >>> def forward(x, scale=1, power=1):
            ...     return scale * x.prod(1) ** power
            >>> players.captum_arguments(forward)["additional_forward_args"]
            (1, 2)
        """
        if self.background or self.decode is not None:
            raise TypeError(
                "players must have one baseline and be of tensors for Captum's methods; these have a background that "
                "values are averaged over, or become a table. Use captum_lkn.ExactShapleyValues"
            )
        further = () if self.names is None else behind_the_inputs(forward_func, self.names, self.constants)
        background = max(self.sizes)
        masks = tuple(owner.masked_fill(owner == BACKGROUND, background) for owner in self.owners)
        baselines = tuple(
            torch.where(owner == BACKGROUND, x, baseline)
            for x, baseline, owner in zip(self.inputs, self.baselines, self.owners, strict=True)
        )
        given = {"inputs": self.inputs, "baselines": baselines, "feature_mask": masks}
        arguments: dict[str, Any] = {k: v if self.is_tuple or len(v) > 1 else v[0] for k, v in given.items()}
        return arguments | ({"additional_forward_args": further} if further else {})

    def _size(self, sample: int) -> int:
        if not 0 <= sample < len(self):
            raise ValueError(f"sample must be between 0 and {len(self) - 1}; got {sample}")
        return len(self.labels[sample])

    def _title(self) -> str:
        names = self.names or ("",) * len(self.inputs)
        tensors = [f"{name} {kind_of(x)}".strip() for name, x in zip(names, self.inputs, strict=True)]
        constants = f"; constant: {', '.join(self.constants)}" if self.constants else ""
        return f"Players of {count_of(len(self), 'sample')}; masked: {', '.join(tensors)}{constants}"

    def _rows(self) -> list[tuple[int, int, str]]:
        """The number, the count and the names of the players of the first samples."""
        shown = enumerate(self.labels[:SHOWN])
        return [(i, len(labels), some_of(distinct_labels(labels), " | ")) for i, labels in shown]

    def _more(self) -> list[str]:
        return [f"and {len(self) - SHOWN} more"] if len(self) > SHOWN else []

    def __repr__(self) -> str:
        rows = [f"sample {i}, {count_of(size, 'player')}: {names}" for i, size, names in self._rows()]
        return "\n  ".join([self._title(), *rows, *self._more()])

    def _repr_html_(self) -> str:
        rows = [(str(i), str(size), names) for i, size, names in self._rows()]
        shown = html.table([self._title()], ("sample", "players", "names"), rows, texts=("names",))
        return html.element("div", shown, html.lines(self._more()))


def players_from_mask(
    inputs: Tensor | tuple[Tensor, ...] | Mapping[str, Any],
    baselines: Tensor | float | tuple[Tensor | float, ...] | Mapping[str, Tensor | float] | None = None,
    feature_mask: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor] | None = None,
    player_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
) -> Players:
    """Make players from Captum's `inputs`, `baselines` and `feature_mask`.

    Scalars with the same id in `feature_mask` are one player, also across the tensors of a tuple. What Captum
    does not have: id -1 marks background, which stays as it is in every masked copy. Feature masks of a 4 x 4
    image, both with four players, the second with its frame as background::

        +---+---+---+---+        +---+---+---+---+
        | 0 | 0 | 1 | 1 |        |-1 |-1 |-1 |-1 |
        +---+---+---+---+        +---+---+---+---+
        | 0 | 0 | 1 | 1 |        |-1 | 0 | 1 |-1 |
        +---+---+---+---+        +---+---+---+---+
        | 2 | 2 | 3 | 3 |        |-1 | 2 | 3 |-1 |
        +---+---+---+---+        +---+---+---+---+
        | 2 | 2 | 3 | 3 |        |-1 |-1 |-1 |-1 |
        +---+---+---+---+        +---+---+---+---+

    Args:
        inputs: A tensor ``[B, ...]``, a tuple of them, or a mapping of keyword to tensor, such as a
            `BatchEncoding`. Of a mapping, ``input_ids`` is masked; without it ``pixel_values``, without that
            ``inputs_embeds``, else all floating tensors. Its other entries become constants.
        baselines: The replacements of absent scalars: None for 0, a number, a tensor of the input's shape or with a
            first dimension of 1, or a tuple of these, one an input. For a mapping also a mapping, by name.
        feature_mask: Integers: a tensor of the input's shape or one that broadcasts to it, or a tuple of
            these, one an input. For a mapping also a mapping, by name. Each sample may have a mask of its
            own: one that lacks ids which others have has fewer players. Ids that no sample has are skipped
            with a warning. None makes every scalar a player, numbered on over all inputs.
        player_names: A label for each distinct id, in ascending order of id, or for each sample a sequence of
            labels for the ids that it has. None takes the ids themselves.

    Returns:
        The players of the batch.

    Raises:
        TypeError: If an argument is not a tensor, or of a dtype that has no meaning here, such as a float feature mask.
        ValueError: If shapes or counts do not fit, a baseline is not a value of its input's dtype, or a sample
            has no player.

    Example:
        >>> image = torch.arange(16.0).reshape(1, 4, 4)
        >>> quarters = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
        >>> players_from_mask(image, baselines=-1, feature_mask=quarters)
        Players of 1 sample; masked: float32 [1, 4, 4]
          sample 0, 4 players: 0 | 1 | 2 | 3
    """
    tensors, names, constants = split_inputs(inputs)
    zeros = (0,) * len(tensors)
    given = one_each("baselines", zeros if baselines is None else baselines, tensors, names)
    masks = (None,) * len(tensors) if feature_mask is None else one_each("feature_mask", feature_mask, tensors, names)
    fitted = tuple(fit_mask(mask, tensors, i) for i, mask in enumerate(masks))
    ids, known = ids_by_sample(fitted, batch=len(tensors[0]))
    warn_of_gaps(known)
    return Players(
        inputs=tensors,
        baselines=tuple(
            fill_baseline(baseline, x, i) for i, (baseline, x) in enumerate(zip(given, tensors, strict=True))
        ),
        owners=tuple(number_players(mask, ids).expand(x.shape) for mask, x in zip(fitted, tensors, strict=True)),
        labels=label_players(ids, known, player_names),
        names=names,
        constants=constants,
        # Several tensors out of a mapping can only go back as a tuple.
        is_tuple=isinstance(inputs, tuple) or len(tensors) > 1,
        description={
            "players": "every scalar" if feature_mask is None else "feature_mask",
            "baseline": ", ".join(kind_of(b) if isinstance(b, Tensor) else str(b) for b in given),
        },
    )


def compact(view: Tensor) -> Tensor:
    """Undo an expansion: repeated entries are kept once, and broadcast back.

    Index tensors of one mask for all colour channels would otherwise be materialised once a channel.
    """
    for dim, stride in enumerate(view.stride()):
        if stride == 0 and view.shape[dim] > 1:
            view = view.narrow(dim, 0, 1)
    return view
