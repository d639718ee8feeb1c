"""Find out on the first masked copies which forwards a model takes, and that their rows are independent.

There are three kinds of forwards, see :class:`captum_lkn.values.forwards.MaskedForwards`. Any rows side by side are
tried first; one value for the whole batch shows in the output; and where rows side by side fail, or differ from single
rows, forwards of all samples in their order are tried.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_lkn._common.messages import count_of
from captum_lkn._common.warn import warn
from captum_lkn.models.trimming import without_padding
from captum_lkn.players.players import Players
from captum_lkn.values.agreement import Agreement, RowsDifferError
from captum_lkn.values.scoring import ForwardError, ScoredForwards

__all__ = ["FirstForward", "check_stored", "few_masks"]

_MANY, _BETWEEN = 32, 4  # from this number of rows on, so many are compared besides the first and the last


class FirstForward:
    """The first forward of masked copies, compared with single rows.

    Args:
        scored: The forwards; they are told what was found out.
        agreement: Compares values.
        unmasked: The values of the unmasked samples, ``[B, L]``.
        evaluate: From the samples and masks of one forward to its values.

    Attributes:
        noise: ``[L]``, the largest difference between rows together and alone; None where they were not compared.
    """

    def __init__(
        self,
        scored: ScoredForwards,
        agreement: Agreement,
        unmasked: Tensor,
        evaluate: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.noise: Tensor | None = None
        self._scored = scored
        self._forwards = scored.forwards
        self._players = scored.forwards.players
        self._agreement = agreement
        self._unmasked = unmasked
        self._evaluate = evaluate

    def values(self, samples: Tensor, masks: Tensor) -> Tensor:
        """Return the values ``[R, L]`` of the first rows, and check that they mean what they should.

        Args:
            samples: Int64 ``[R]``, the sample of each row.
            masks: Bool ``[R, n_max]``.

        Raises:
            ValueError: A value is not finite; rows influence each other.

        Warns:
            UserWarning: The model only takes the batch as it was given.
        """
        self._scored.trying = True
        try:
            values = torch.cat(self._forwards.run(samples, masks, self._evaluate))
            self._scored.checked = True
            if self._forwards.whole_batch:
                return values
            with torch.no_grad():
                self._agreement.check_finite(samples, masks, values)
                differs = self._difference_from_single_rows(samples, masks, values)
        except ForwardError as failed:
            return self._in_their_order(samples, masks, failed.error)
        finally:
            self._scored.trying = False
        if differs is None:
            with torch.no_grad():
                self._check_padding(values)
            return values
        self.noise = None
        if self._is_one_value_repeated(values):
            self._forwards.take_for_whole_batch(self._scored.reader.layers)
            return torch.cat(self._forwards.run(samples, masks, self._evaluate))
        if len(self._players) > 1 and (self._forwards.arguments.positional or self._forwards.arguments.keywords):
            return self._in_their_order(samples, masks, differs)
        raise differs

    def _difference_from_single_rows(self, samples: Tensor, masks: Tensor, values: Tensor) -> ValueError | None:
        """Compare the first and the last row alone, and some between them in a small forward; keep the noise.

        Of several samples the last one is compared unmasked.
        """
        alone = values.clone()
        for row in sorted({0, len(samples) - 1}):
            drops_removed = self._scored.first_position is not None
            if len(self._players) == 1 and not drops_removed and bool(masks[row].all()):
                alone[row] = self._unmasked[0]
            else:
                alone[row] = self._evaluate(samples[row : row + 1], masks[row : row + 1])[0]
        if len(samples) >= _MANY:  # a model of limited capacity may drop rows in the middle of a forward
            between = torch.arange(1, _BETWEEN + 1, device="cpu") * len(samples) // (_BETWEEN + 1)
            alone[between.to(alone.device)] = self._together(samples[between], masks[between])
        self.noise = (values - alone).abs().amax(0)
        if not self._agreement.same(values, alone):
            return self._agreement.influence(len(samples), self.noise)
        if len(self._players) > 1:
            everyone, full = self._forwards.everyone()
            last = self._evaluate(everyone[-1:], full[-1:])
            unmasked = self._unmasked.to(values)
            together = torch.cat([values, unmasked, unmasked[-1:]])
            if not self._agreement.same(together, torch.cat([values, unmasked, last])):
                return self._agreement.influence(len(self._players), (last - unmasked[-1:].to(last)).abs().amax(0))
        return None

    def _check_padding(self, values: Tensor) -> None:
        """Check that padded samples have the same values without their padding, up to rounding of `values`."""
        model, arguments = self._scored.reader.model, self._forwards.arguments
        for group in without_padding(model, arguments, len(self._players), self._forwards.rows):
            self._scored.trying = True
            try:
                trimmed = self._scored.trimmed(group)
            except ForwardError:  # a model of a fixed length
                return
            finally:
                self._scored.trying = False
            if trimmed is not None:
                padded = self._unmasked[list(group.samples)].to(values)
                same = self._agreement.same_without_padding(group, values, padded, trimmed.to(values), model.name)
                if not same:  # one warning is enough
                    return

    def _is_one_value_repeated(self, values: Tensor) -> bool:
        """Return whether each row of a forward has the same value, which is one for the whole batch."""
        if len(self._players) > 1 or min(len(values), self._forwards.rows) <= 2:
            return False
        with torch.no_grad():
            few = self._together(*few_masks(self._players))
        return bool((torch.cat([few == few[:1], values == values[:1]])).all())

    def _together(self, samples: Tensor, masks: Tensor) -> Tensor:
        """Return the values of a few rows, in one forward where memory allows it."""
        return torch.cat(self._forwards.run(samples, masks, self._evaluate))

    def _in_their_order(self, samples: Tensor, masks: Tensor, error: Exception) -> Tensor:
        """Try forwards of all samples in their order, since others fail; raise the error if these do not help."""
        self._scored.checked, self._scored.trying = False, True
        everyone, full = self._forwards.everyone()
        none, but_first = ~full, full.clone()
        but_first[0] = False
        try:
            with torch.no_grad():
                all_absent, first_absent, again = (self._evaluate(everyone, m) for m in (none, but_first, full))
        except ForwardError:
            raise error from None
        finally:
            self._scored.trying = False
        unmasked = self._unmasked.to(all_absent)
        if self._forwards.whole_batch:
            raise error
        scale = torch.cat([all_absent, unmasked])
        apart = self._agreement.same(torch.cat([scale, all_absent[:1], unmasked[1:]]), torch.cat([scale, first_absent]))
        steady = self._agreement.same(torch.cat([scale, unmasked]), torch.cat([scale, again]))
        if not (apart and steady):
            if isinstance(error, RowsDifferError):
                raise error
            raise ValueError(self._not_in_their_order(error, steady)) from error
        self._forwards.aligned = self._scored.checked = True
        reason = error.found if isinstance(error, RowsDifferError) else f"{type(error).__name__}: {error}"
        warn(
            f"masked copies of any samples in a forward do not work ({reason}). Forwards of "
            f"{count_of(len(self._players), 'sample')} in their order do, and are used; they take longer. If an "
            "additional argument has no row for each sample, give captum_lkn.Fixed(argument)"
        )
        return self._forwards.run_aligned(samples, masks, self._evaluate)

    def _not_in_their_order(self, error: Exception, steady: bool) -> str:
        """Return a message for forwards that take neither any rows nor all samples in their order."""
        start = f"masked copies of any samples in a forward do not work ({type(error).__name__}: {error}), and "
        if not steady:
            return start + (
                "the unmasked samples have other values in a second forward: it is random, or keeps a state between "
                "calls, such as a cache. Use a forward without, that takes any number of rows"
            )
        return start + (
            f"in a forward of {count_of(len(self._players), 'sample')} in their order a sample's value depends on the "
            "others. Give one sample at a time; or make one sample of all, such as a graph: the inputs x[None], and a "
            "function that calls the model with x[0]"
        )


def check_stored(scored: ScoredForwards, agreement: Agreement, empty: Tensor) -> None:
    """Check that a value that is always the same is no stored result, by a forward of two rows instead of one.

    Args:
        scored: The forwards.
        agreement: Compares values.
        empty: ``[L]``, the values of the first sample without players.

    Raises:
        ValueError: The forward of two rows gives another value.
    """
    none = torch.zeros(2, max(scored.forwards.players.sizes), dtype=torch.bool, device="cpu")
    try:
        again = scored.values(torch.zeros(2, dtype=torch.int64, device="cpu"), none).to(empty)
    except Exception:  # it takes one row
        return
    if not agreement.same(torch.stack([empty, empty]), again):
        raise ValueError(
            "all masked copies have the same value in forwards of one row, and another one (by "
            f"{float((again - empty).abs().max()):.3g}) in a forward of two: the forward returns stored results, such "
            "as one for each shape of its inputs. Use a forward without such a store"
        )


def few_masks(players: Players) -> tuple[Tensor, Tensor]:
    """Return some masks of the first and of the last sample: all players, every other one, none."""
    every = torch.arange(max(players.sizes), device="cpu")
    masks = torch.stack([every >= 0, every % 2 == 0, every < 0])
    chosen = sorted({0, len(players) - 1})
    return torch.tensor(chosen, device="cpu").repeat_interleave(len(masks)), masks.repeat(len(chosen), 1)
