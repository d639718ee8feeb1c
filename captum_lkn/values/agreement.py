"""Checks that the values of masked copies are finite, and do not depend on the forward that they come from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_lkn._common.limits import MAX_PLAYERS
from captum_lkn._common.messages import SHOWN, count_of, some_of
from captum_lkn._common.rounding import Precision, agree
from captum_lkn._common.warn import warn
from captum_lkn.interactions.labels import distinct_labels
from captum_lkn.models.trimming import Trimmed
from captum_lkn.players.players import Players

__all__ = ["Agreement", "RowsDifferError", "present_players"]


class RowsDifferError(ValueError):
    """Rows have other values together than alone.

    Attributes:
        found: What was found, without the advice.
    """

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(f"{found}. {advice}")
        self.found, self._advice = found, advice

    def __reduce__(self) -> tuple[type[RowsDifferError], tuple[str, str]]:
        """Make it anew in another process; an exception's own way knows the message alone."""
        return type(self), (self.found, self._advice)


class Agreement:
    """Checks of values, with the tolerance of the precision that they were computed in.

    Args:
        players: The players, for messages.
        labels: A label for each of the L columns of values.
        precision: The precision of the forwards.
        advice: A remedy for values that are not finite; empty: none is known.
    """

    def __init__(self, players: Players, labels: Sequence[str], precision: Precision, advice: str = "") -> None:
        self.players = players
        self.labels = tuple(labels)
        self.precision = precision
        self.advice = advice or "look at what the model returns for this masked input, and at the baseline"

    def same(self, some: Tensor, others: Tensor) -> bool:
        """Return whether two computations of values ``[R, L]`` differ by no more than rounding."""
        return agree(some, others, self.precision.eps)

    def check_finite(self, samples: Tensor, masks: Tensor, values: Tensor) -> None:
        """Check that values ``[R, L]`` are finite.

        Raises:
            ValueError: One is not; the message names its sample, its layer and the players that were present.
        """
        if bool(values.isfinite().all()):
            return
        row, column = (~values.isfinite()).nonzero()[0].tolist()
        sample, label = int(samples[row]), self.labels[column]
        where = "" if label == "output" else f" at {label}" if label.startswith("output ") else f" at layer {label!r}"
        names = distinct_labels(self.players.labels[sample])
        raise ValueError(
            f"the value of sample {sample}{where} is {float(values[row, column])} with "
            f"{present_players(names, masks[row, : len(names)])}: {self.advice}"
        )

    def check_full(self, tables: Sequence[Tensor], unmasked: Tensor) -> None:
        """Check that v(N) of each table ``[L, 2^n]`` is the value of the unmasked sample, ``[B, L]``.

        Raises:
            ValueError: The two differ by more than rounding.
        """
        full = torch.stack([table[:, -1] for table in tables])
        expected = unmasked.to(full)
        differs = (full != expected).any(1)
        for sample in differs.nonzero().flatten().tolist():  # few, unless forwards of other sizes round differently
            table = tables[sample]
            again = torch.cat([table[:, :-1], expected[sample, :, None]], 1)
            if self.same(table.T, again.T):
                continue
            apart = (full[sample] - expected[sample]).abs()
            place = int(apart.nan_to_num(torch.inf).argmax())
            raise ValueError(
                f"v(N) of sample {sample} at {self.labels[place]!r} is {float(full[sample, place]):.6g} in its table, "
                f"and {float(expected[sample, place]):.6g} in the forward of the unmasked inputs: the forward is "
                "random, keeps a state between calls, or its rows influence each other. Masked evaluation needs a "
                "forward that answers each row by itself and always the same: use one without noise, state or batch "
                "statistics; give captum_lkn.Fixed(argument) for an additional argument that has no row for each sample"
            )

    def same_without_padding(self, group: Trimmed, values: Tensor, padded: Tensor, trimmed: Tensor, model: str) -> bool:
        """Check that samples have the same values with and without their padding.

        Args:
            group: G samples without their padding.
            values: ``[R, L]`` of masked copies, whose range is the scale of rounding.
            padded: ``[G, L]``, the values of the unmasked samples with padding.
            trimmed: The same without it.
            model: The name of the model.

        Returns:
            Whether they have.

        Raises:
            ValueError: The two differ by more than rounding, and an attention mask marks the padding.

        Warns:
            UserWarning: The two differ, and no mask is given.
        """
        if self.same(torch.cat([values, padded]), torch.cat([values, trimmed])):
            return True
        row, place = divmod(int((padded - trimmed).abs().nan_to_num(torch.inf).argmax()), padded.shape[1])
        tokens = group.length - (group.kept.stop - group.kept.start)
        found = (
            f"the value of sample {group.samples[row]} at {self.labels[place]!r} is {float(padded[row, place]):.6g} "
            f"with {count_of(tokens, 'token')} of padding, and {float(trimmed[row, place]):.6g} without: {model} "
        )
        if not group.is_marked:
            warn(
                f"{found}got no attention_mask, and takes the padding tokens for words. Give attention_mask=, 1 at "
                "real tokens and 0 at padding: all that the tokenizer returned as one mapping, or the mask in "
                "additional_forward_args"
            )
            return False
        raise ValueError(
            f"{found}reads padding in spite of the attention mask, so that a sample's interactions would depend on the "
            "longest text of its batch. Give one text at a time, without padding"
        )

    def influence(self, rows: int, apart: Tensor) -> RowsDifferError:
        """Return the error for rows whose values differ by up to `apart`, ``[L]``, together and alone."""
        found = "rows of a batch influence each other, or the forward is random"
        compared = f"{rows} rows evaluated together and alone differ"
        if rows == 1:
            found, compared = "the forward is random, or keeps a state between calls", "one row evaluated twice differs"
        return RowsDifferError(
            f"{found}: {compared} by up to {float(apart.max()):.3g}, more than the rounding of {self.precision.name}",
            "Masked evaluation needs independent rows: use a forward without batch statistics, state or noise; give "
            "captum_lkn.Fixed(argument) for an additional argument that has no row for each sample",
        )

    def warn_of_low_precision(self, model: str, values: Tensor, apart: Tensor) -> None:
        """Warn of a precision below float32, with the measured noise.

        Args:
            model: The name of the model.
            values: ``[R, L]``, of some masks.
            apart: ``[L]``, the largest difference between rows together and alone.
        """
        if not self.precision.reduced:
            return
        values, apart = values.detach(), apart.detach()
        spread = values.amax(0) - values.amin(0)
        rounding = self.precision.eps / 2 * values.abs().amax(0)
        share = float((torch.maximum(apart, rounding) / spread).where(spread > 0, 0).max())
        # Measured on a BERT-base and ten words: TF32 moves values by .13 % of their range and effects by 3.4 % of their
        # L1 norm, float16 by .25 and 5.5 %, bfloat16 by 1.2 and 20 %.
        warn(
            f"{model} computes in {self.precision.name}: the values have a noise of at least {100 * share:.2g} % of "
            "their range (rows together against alone, and rounding). It grows in the interactions: on a BERT 0.13 % "
            f"moved them by 3.4 % of their L1 norm, 1.2 % by 20 %. For more exact ones {self.precision.advice}"
        )


def present_players(labels: Sequence[str], mask: Tensor) -> str:
    """Return, for a message, the players that a mask shows."""
    there = [label for label, present in zip(labels, mask.tolist(), strict=True) if present]
    absent = [label for label, present in zip(labels, mask.tolist(), strict=True) if not present]
    if not absent and len(there) > SHOWN:
        return "all players present"
    if len(absent) < len(there) > SHOWN:
        return f"all players present but {{{some_of(absent)}}}"
    place = ""
    if len(labels) <= MAX_PLAYERS:
        index = sum(1 << i for i, present in enumerate(mask.tolist()) if present)
        place = f" (mask {index} of {1 << len(labels)})"
    return f"the players {{{some_of(there)}}} present{place}"
