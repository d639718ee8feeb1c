"""Score forwards of masked copies: a row of outputs, and of each layer's read-out, becomes a row of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.rounding import no_autocast
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import Layer
from captum_lkn.models.reading import LayerReader
from captum_lkn.models.trimming import Trimmed
from captum_lkn.outputs.heads import Outputs
from captum_lkn.outputs.probabilities import looks_like_probabilities, refuse_probabilities, unit_of
from captum_lkn.outputs.score import Score
from captum_lkn.outputs.targets import Target
from captum_lkn.values.forwards import MaskedForwards
from captum_lkn.values.removal import without_removed
from captum_lkn.values.sources import Source

__all__ = ["ForwardError", "ScoredForwards", "side_by_side"]

_ENOUGH: Final = 64  # rows to tell probabilities from logits, which may be within 0 and 1 by chance


class ForwardError(Exception):
    """Failure of the model's forward, while it is not known yet which forwards it takes.

    Attributes:
        error: What the forward raised.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


class _ReadOutError(ForwardError):
    """Failure of a read-out or of a score, inside the model's forward."""


class ScoredForwards:
    """Forwards of masked copies, and their values.

    Args:
        forwards: The masked copies.
        reader: Runs the model and reads its layers.
        sources: L places to read.
        score: From outputs and targets to values.

    Attributes:
        target: What is explained; set once the unmasked outputs are known.
        shape: The shape of a sample's output; set with the target.
        every_output: Whether all outputs are values, instead of those of a target.
        seen: By source the logits that are still to be looked at for probabilities; first the unmasked ones.
        first_position: The position of the first token, where tokens that are removed are left out; else None.
        checked: Whether the rows of a forward were checked.
        trying: Whether it is still open which forwards the model takes; then its errors are :class:`ForwardError`.
    """

    target: Target
    shape: tuple[int, ...]

    def __init__(self, forwards: MaskedForwards, reader: LayerReader, sources: Sequence[Source], score: Score) -> None:
        self.forwards = forwards
        self.reader = reader
        reader.record = forwards.record
        self.sources = tuple(sources)
        self.score = score
        self.every_output = False
        self.seen: dict[int, list[Tensor]] = {}
        self._units: dict[int, str] = {}  # of the sources that were looked at
        self.first_position: int | None = None
        self.checked = False
        self.trying = False
        self.of_layers = [place for place, source in enumerate(self.sources) if source.layer is not None]

    def unscored(self, samples: Tensor, masks: Tensor) -> tuple[Outputs, tuple[Tensor, ...]]:
        """Return a forward's outputs ``[R, ...]``, and the logits of each layer, before the target is known."""
        arguments = self.forwards.copies(samples, masks)
        self.forwards.record(arguments)
        return self.reader(
            arguments,
            lambda place, feature: self.sources[self.of_layers[place]].logits(feature),
        )

    def outputs(self, samples: Tensor, masks: Tensor) -> Tensor:
        """Return the model's outputs for masked copies that fit one forward, ``[R, ...]``."""
        arguments = self.forwards.copies(samples, masks)
        self.forwards.record(arguments)
        return self._in_rows(self.reader(arguments, lambda _, feature: feature.new_empty(0))[0].tensor, len(samples))

    def values(
        self,
        samples: Tensor,
        masks: Tensor,
        baselines: tuple[Tensor, ...] | None = None,
        draws: Tensor | None = None,
    ) -> Tensor:
        """Return the values ``[R, L]`` of masked copies that fit one forward, or one for each number of tokens."""
        arguments = self.forwards.copies(samples, masks, baselines, draws)
        if self.first_position is None:
            return self._forward(arguments, samples)
        places, parts = [], []
        for rows, part in without_removed(arguments, self.first_position):
            places.append(rows)
            parts.append(self._forward(part, samples[rows]))
        values = torch.cat(parts)
        return values[torch.cat(places).argsort().to(values.device)]

    def trimmed(self, one: Trimmed) -> Tensor | None:
        """Return the values ``[G, L]`` of samples without their padding; None where they cannot be compared.

        Not compared are layers whose feature depends on where tokens are, and the outputs of padding.
        """
        samples = torch.tensor(one.samples, device="cpu")
        explained = self._explained(samples)
        if explained is not None and explained.shape[1] == one.length:
            explained = explained[:, one.kept]
        if (explained is not None and not bool(explained.any(1).all())) or any(
            map(_depends_on_places, self.reader.layers)
        ):
            return None
        output, kept = self._run(one.arguments, samples, explained)
        output = self._in_rows(output, len(samples))
        output = output[:, None] if output.dim() == 1 else output
        whole = one.widened(output, self.shape)
        if whole is None or (self.every_output and whole.shape != output.shape):
            return None
        return self._values_of(whole, kept, samples)

    def units(self) -> tuple[str, ...]:
        """Look at the outputs that are left, fewer than are wanted, and return the unit of each source's values.

        Raises:
            ValueError: A source gives probabilities, and the score reads logits.
        """
        for place, seen in self.seen.items():
            if place not in self._units and seen and self.checked:  # masked ones too
                try:
                    self._look(place)
                except ValueError as error:
                    raise self._at_layer(place, error) from None
        return tuple(self._units.get(place, self.score.unit) for place in range(len(self.sources)))

    def every(self, output: Tensor) -> Tensor:
        """Return the values ``[R, L]`` of all outputs ``[R, ...]``, by a score that reads each by itself."""
        single = output.reshape(-1, 1)
        with no_autocast():
            values = self.score(single, torch.zeros(len(single), dtype=torch.int64, device=single.device))
        return values.reshape(len(output), -1)

    def _forward(self, arguments: Arguments, samples: Tensor) -> Tensor:
        """Return the values of one forward."""
        output, kept = self._run(arguments, samples, self._explained(samples))
        output = self._in_rows(output, len(samples))
        if not self.forwards.whole_batch and not self.checked and len(output) == 1 < len(samples):
            # One sample and an output of one row could be either; several rows tell.
            self.forwards.take_for_whole_batch(self.reader.layers)
            return output.new_empty(len(samples), len(self.sources))
        return self._values_of(output, kept, samples)

    def _run(
        self, arguments: Arguments, samples: Tensor, explained: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run one forward; a read-out is scored inside its hook, so that a number a row is all that is kept."""

        def of_layer(place: int, feature: Tensor) -> Tensor:
            try:
                return self._layer_values(self.of_layers[place], feature, samples)
            except Exception as error:
                raise _ReadOutError(error) from error

        self.forwards.record(arguments)
        try:
            outputs, kept = self.reader(arguments, of_layer, explained)
            return outputs.tensor, kept
        except _ReadOutError as failed:
            raise failed.error from failed.error.__cause__
        except Exception as error:
            if not self.trying or out_of_memory(error):
                raise
            raise ForwardError(error) from error

    def _values_of(self, output: Tensor, kept: Sequence[Tensor], samples: Tensor) -> Tensor:
        """Return the values of a forward with an output ``[R, ...]`` and what was kept of each layer."""
        if self.forwards.whole_batch:
            samples = torch.zeros(1, dtype=torch.int64, device="cpu")
        try:
            logits, classes = self.target.select(output, samples)
        except ValueError as error:
            raise (ForwardError(error) if self.trying else error) from None
        if self.every_output:
            return self.every(output)
        layers = iter(kept)
        return side_by_side(
            [
                self._scored(place, logits, classes) if source.layer is None else next(layers)
                for place, source in enumerate(self.sources)
            ]
        )

    def _layer_values(self, place: int, feature: Tensor, samples: Tensor) -> Tensor:
        source = self.sources[place]
        logits = source.logits(feature, self.target.n_outputs)
        classes = self.target.classes.to(logits.device)[samples.to(logits.device)]
        try:
            return self._scored(place, logits, classes)
        except ValueError as error:
            raise self._at_layer(place, error) from error

    def _at_layer(self, place: int, error: ValueError) -> ValueError:
        """Return an error that says where it was, since what it calls the output is the read-out's."""
        source = self.sources[place]
        return error if source.layer is None else ValueError(f"at layer {source.label!r}, {error}")

    def _scored(self, place: int, logits: Tensor, classes: Tensor) -> Tensor:
        """Score the logits of one source, and look for probabilities once enough rows were seen."""
        if place not in self._units:
            seen = self.seen.setdefault(place, [])
            seen.append(logits.detach())
            # Rows that add up to 1 do not by chance: no further forwards are spent on them.
            if sum(map(len, seen)) >= _ENOUGH or (len(seen) == 2 and looks_like_probabilities(torch.cat(seen))):
                self._look(place)
        with no_autocast():
            return self.score(logits, classes)

    def _look(self, place: int) -> None:
        """Refuse probabilities where logits are read, and keep the unit of the source's values."""
        output, source = torch.cat(self.seen[place]), self.sources[place]
        linear = self.reader.model.returns_logits if source.layer is None else source.is_linear
        refuse_probabilities(self.score, output, linear=linear)
        self._units[place] = unit_of(self.score, output, linear=linear)
        self.seen[place] = []

    def _in_rows(self, output: Tensor, rows: int) -> Tensor:
        """Return the output with the first dimension that a forward of one row, or of one value, may have dropped."""
        whole_batch = self.forwards.whole_batch
        dropped = (rows == 1 or whole_batch) and tuple(output.shape) == self.shape != (1,)
        output = output[None] if output.dim() == 0 or dropped else output
        return output[:1] if whole_batch else output  # one value may be repeated in each row

    def _explained(self, samples: Tensor) -> Tensor | None:
        """Return the token that the target is at, bool ``[R, T]``, where the output has one a token."""
        if len(self.target.shape) != 2:
            return None
        return self.target.positions.cpu()[samples] == torch.arange(self.target.position_sizes[0], device="cpu")


def side_by_side(columns: Sequence[Tensor]) -> Tensor:
    """Return columns ``[R]``, which may lie on the devices of several layers, as one tensor ``[R, L]``."""
    return torch.stack([column.to(columns[0].device) for column in columns], dim=1)


def _depends_on_places(layer: Layer) -> bool:
    """Return whether a layer's feature may depend on where its tokens are, not only on what they are."""
    return callable(layer.pool) or layer.select is not None or layer.pool == "flatten"
