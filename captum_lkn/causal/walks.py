"""The walk over the prefix tree of one prompt and a continuation, where it saves work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.rounding import agree, precision_in_force
from captum_lkn.causal.all_masks import AllMasks, PartOfMasks, plainly
from captum_lkn.causal.prefix_tree import PrefixTree, Walk, worth_it
from captum_lkn.causal.prompts import prompt_of
from captum_lkn.decomposition import lattice
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.players.players import Players

__all__ = ["Leaves", "difference", "walk_over"]


def walk_over(
    model: Any, continuation: Tensor, players: Players, sample: int, attention_mask: Tensor | None
) -> Walk | AllMasks:
    """Plan the evaluation of all masked variants of a prompt, each followed by a continuation.

    Args:
        model: A causal model that takes a tree mask.
        continuation: Token ids ``[c]``; the last one is predicted and not read.
        players: Players of prompts.
        sample: The number of the prompt.
        attention_mask: ``[1, T]``, of this prompt; None for that of the players, if they have one.

    Returns:
        The walk, or the reason why the plain evaluation is needed.
    """
    n = players.sizes[sample]
    ids, mask = prompt_of(players, sample, attention_mask)
    written = continuation[:-1]
    present = torch.cat([ids[mask], written])
    absent = torch.cat([players.baselines[0][sample].cpu()[mask], written])
    owners = pad(players.owners[0][sample].cpu()[mask], (0, len(written)), value=BACKGROUND)
    if not set(range(n)) <= set(owners.tolist()):
        return plainly("a player owns no token that the attention mask shows")
    tree = PrefixTree.of(owners, n)
    if not worth_it(tree):
        return plainly("its prefixes share too little", tree.plain_tokens)
    # Plain forwards leave out copies that are the same; the tree has all of them.
    different = set(owners[present != absent].tolist()) - {BACKGROUND}
    if not worth_it(tree, len(different)):
        return plainly("few of its masked copies differ", len(owners) << len(different))
    return Walk(model, tree, present, absent, tree.levels(owners), len(continuation))


@dataclass(frozen=True)
class Leaves:
    """Values of the leaves of a prompt's prefix tree.

    Attributes:
        walk: The tree, and the model that evaluates it.
        values_of: From logits of leaves ``[m, keep, V]`` to their values, float64 ``[m]`` on the CPU.
        difference: From subsets and their values to the reason why the plain evaluation is needed; None: they agree.
    """

    walk: Walk
    values_of: Callable[[Tensor], Tensor]
    difference: Callable[[Tensor, Tensor], str | None]

    def first(self) -> tuple[Tensor, Tensor, Iterator[tuple[Tensor, Tensor]]] | str:
        """Return the subsets and values of the first leaves, and the others; or why the plain evaluation is needed."""
        leaves = self.walk.leaf_logits()
        try:
            subsets, logits = next(leaves)
        except (RuntimeError, IndexError, MemoryError) as error:  # such as more tokens than a table of positions has
            return f"it fails under a tree mask ({type(error).__name__})"
        values = self.values_of(logits)
        return self.difference(subsets, values) or (subsets, values, leaves)

    def evaluate(self, part: tuple[int, int], advance: Callable[[int], object] | None = None) -> PartOfMasks:
        """Evaluate a part of the leaves.

        Each part begins with the first leaves of all, and compares some, so that all parts find the same.

        Args:
            part: (i, k), the i-th of k parts, from 0.
            advance: Called with the number of subsets that are done; where memory runs out, with that of all of them
                below 0, because they are evaluated plainly then.

        Returns:
            Subsets and outputs.

        Raises:
            ValueError: There is no such part.
        """
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"part must be (i, k), the i-th of k parts from 0; got {part!r}")
        first = self.first()
        if isinstance(first, str):
            return PartOfMasks(None, None, plainly(first, self.walk.tree.plain_tokens).evaluation)
        subsets, values, others = first
        found = [(subsets, values)]
        if part != (0, 1):
            found, others = [(subsets[:0], values[:0])], self.walk.leaf_logits(part)
        elif advance is not None:
            advance(len(subsets))
        try:
            for subsets, logits in others:
                found.append((subsets, self.values_of(logits)))
                if advance is not None:
                    advance(len(subsets))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if advance is not None:
                advance(-sum(len(subsets) for subsets, _ in found))
            return PartOfMasks(None, None, plainly("its prefixes have no room", self.walk.tree.plain_tokens).evaluation)
        every, outputs = map(torch.cat, zip(*found, strict=True))
        counts = {"tokens": self.walk.tree.tokens, "plain_tokens": self.walk.tree.plain_tokens}
        return PartOfMasks(every, outputs[:, None], {"evaluation": "prefix tree"} | counts)


def difference(
    forward: Callable[..., Tensor],
    module: Any,
    players: Players,
    sample: int,
    attention_mask: Tensor | None,
    subsets: Tensor,
    values: Tensor,
) -> str | None:
    """Compare plain outputs of some subsets with the tree's.

    Args:
        forward: Evaluates masked copies of the prompt, with their attention masks.
        module: The model.
        players: Players of prompts.
        sample: The number of the prompt.
        attention_mask: As in :func:`walk_over`.
        subsets: Subsets of the tree, int64 ``[m]``.
        values: Their values, float64 ``[m]`` on the CPU.

    Returns:
        The reason why the plain evaluation is needed, if they differ by more than rounding; else None.
    """
    _, mask = prompt_of(players, sample, attention_mask)
    few = torch.tensor(sorted({0, len(subsets) // 3, len(subsets) - 1}), device="cpu")
    (copies,) = players.masked(sample, lattice.members(subsets[few], players.sizes[sample]))
    home = module.device
    plain = forward(copies.to(home), mask.long().expand(len(few), -1).to(home))[:, 0].cpu().double()
    if agree(plain, values[few], precision_in_force(module.dtype, home).eps):
        return None
    return f"its outputs under a tree mask differ by {float((plain - values[few]).abs().max()):.3g}"
