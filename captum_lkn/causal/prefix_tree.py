"""Evaluate all masked variants of a prompt, computing each distinct prefix once.

A causal model's state at a token depends on the tokens before it alone. The 2^n masked variants of a prompt form a
binary tree over its players in the order of their first tokens: what lies before the first player is the same in
all of them, and at the first token of each player every branch forks. Between forks lie *segments*; level k of the
tree has 2^k nodes of the same segment. With one token a player that is about 2^(n+1) tokens instead of n 2^n.

:class:`PrefixTree` is the plan, independent of the model. :func:`leaf_logits` evaluates it with a model of
`transformers`: some levels at a time as *one sequence under a tree mask*, in which a token attends to its ancestors
only. Their keys and values come from a cache for the few rows of each block, so no cache is copied at every fork.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.messages import shape_of
from captum_lkn.causal.caches import KeysValues, filled_cache, kept_logits, keys_and_values
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.models.hugging_face.facts import (
    adds_virtual_tokens,
    attention_implementation,
    cache_argument,
    has_linear_biases,
    parameters_of,
    unusual_caches,
    vocabulary_size,
)

__all__ = ["PrefixTree", "Walk", "leaf_logits", "why_not", "worth_it"]

# Tokens of a sequence under one tree mask: attention grows with its square, the number of forwards with its inverse.
_BLOCK = 128

# In a forward: keys (cached and new) of all rows together, and entries of the logits.
_KEYS = 1 << 12
_LOGITS = 1 << 26

# A token costs a little more in the tree than in a plain batch, whose causal mask is built into the kernels.
_MARGIN = 1.25


@dataclass(frozen=True)
class PrefixTree:
    """The forks of the masked variants of one prompt.

    Attributes:
        order: The players by their first tokens: level k + 1 of the tree is that of player ``order[k]``.
        bounds: The starts of the n + 1 segments, and the end of the last one: segment k, ``bounds[k]`` to
            ``bounds[k + 1]``, is the part of the prompt that depends on the first k players of the order alone.
        blocks: First and last level of each part of the tree that is one sequence under a tree mask, from the top.

    Example:
        >>> tree = PrefixTree.of(torch.tensor([-1, 1, 1, -1, 0, 1, -1]), players=2)
        >>> tree.order, tree.bounds
        ((1, 0), (0, 1, 4, 7))
        >>> tree.tokens, tree.plain_tokens  # 1 + 2 * 3 + 4 * 3, and 4 * 7
        (19, 28)
    """

    order: tuple[int, ...]
    bounds: tuple[int, ...]
    blocks: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, owners: Tensor, players: int) -> PrefixTree:
        """Plan the tree of one prompt.

        Args:
            owners: Int64 ``[T]``, the player that owns each token, or -1.
            players: The number n of players.

        Returns:
            The plan.

        Raises:
            ValueError: `owners` is not ``[T]``, or some player owns no token.
        """
        if owners.dim() != 1:
            raise ValueError(f"owners must be [T], the player of each token of one prompt; got {shape_of(owners)}")
        listed = owners.tolist()
        missing = sorted(set(range(players)) - set(listed))
        if missing:
            raise ValueError(f"owners must have a token of each player; got none of player {missing[0]}")
        firsts = [listed.index(player) for player in range(players)]
        order = tuple(sorted(range(players), key=firsts.__getitem__))
        bounds = (0, *(firsts[player] for player in order), len(listed))
        return cls(order, bounds, _blocks([end - begin for begin, end in pairwise(bounds)]))

    @property
    def tokens(self) -> int:
        """The number of tokens of the tree."""
        return sum((end - begin) << level for level, (begin, end) in enumerate(pairwise(self.bounds)))

    @property
    def plain_tokens(self) -> int:
        """The number of tokens of all variants together."""
        return self.bounds[-1] << len(self.order)

    def levels(self, owners: Tensor) -> Tensor:
        """Return the level, from 1, of the owner of each token ``[T]``; 0 for the background."""
        level_of = (
            torch.tensor([*sorted(range(len(self.order)), key=self.order.__getitem__), BACKGROUND], device="cpu") + 1
        )
        return level_of[owners]  # the background's -1 reads the last entry

    def table_index(self, leaves: Tensor) -> Tensor:
        """Return the subset of each leaf, bit i = player i is present; bit k of a leaf is that of level k + 1."""
        bits = [(leaves >> level & 1) << player for level, player in enumerate(self.order)]
        return torch.stack(bits).sum(0)


def _blocks(sizes: list[int]) -> tuple[tuple[int, int], ...]:
    """Put as many levels into a block as fit, from the bottom, which has most tokens; level 0 is in none."""
    blocks, last = [], len(sizes) - 1
    while last >= 1:
        first, tokens = last, 2 * sizes[last]
        while first > 1 and 2 * (sizes[first - 1] + tokens) <= _BLOCK:
            first -= 1
            tokens = 2 * (sizes[first] + tokens)
        blocks.append((first, last))
        last = first - 1
    return tuple(reversed(blocks))


def worth_it(tree: PrefixTree, different: int | None = None) -> bool:
    """Return whether the tree is faster than the plain evaluation: a player early in a long prompt shares little.

    Args:
        tree: The plan of the tree.
        different: The number of players whose absence changes the prompt; None: all of them.

    Example:
        >>> worth_it(PrefixTree.of(torch.arange(4), 4)), worth_it(PrefixTree.of(torch.tensor([0, -1, -1]), 1))
        (True, False)
    """
    plain = tree.plain_tokens if different is None else tree.bounds[-1] << different
    return _MARGIN * tree.tokens <= plain


def why_not(model: Any, parameters: set[str]) -> str | None:
    """Return the reason why a model of `transformers` cannot evaluate the tree; None if it can.

    Args:
        model: The model.
        parameters: The parameters of its forward.

    Returns:
        The reason, as the end of a sentence about the model.
    """
    if adds_virtual_tokens(model):
        return "its adapter puts tokens of its own before the prompt"
    needed = {"attention_mask", "position_ids", cache_argument(parameters) or "past_key_values", "use_cache"}
    missing = sorted(needed - parameters)
    if missing:
        return f"its forward takes no {', '.join(missing)}"
    attention = attention_implementation(model)
    if attention not in ("eager", "sdpa"):
        return f"its attention, {attention}, takes no tree mask: load it with attn_implementation='sdpa'"
    if has_linear_biases(model) or getattr(model, "_is_stateful", False):
        return "its positions or its state are not those of a key-value cache"
    others = ", ".join(unusual_caches(model))
    return f"its cache has layers of {others}, which keep no whole prefix" if others else None


class _Layout(NamedTuple):
    """The packed sequence of a block, the same for all of its rows; K keys come before it.

    Nodes are numbered inside the row: bit j of a node's number is the player of the block's level j.
    """

    positions: Tensor  # [S] in the prompt
    nodes: Tensor  # [S], the node that each token belongs to
    mask: Tensor  # [S, K + S] bool: the keys that each token attends to
    paths: Tensor  # [leaves, P] the keys of each of the last level's nodes, in the order of the prompt


def _layout(tree: PrefixTree, first: int, last: int) -> _Layout:
    before = tree.bounds[first]
    parts = [
        (depth, node, torch.arange(tree.bounds[level], tree.bounds[level + 1], device="cpu"))
        for depth, level in enumerate(range(first, last + 1), start=1)
        for node in range(1 << depth)
    ]
    positions = torch.cat([segment for _, _, segment in parts])
    sizes = torch.tensor([len(segment) for _, _, segment in parts], device="cpu")
    nodes = torch.tensor([node for _, node, _ in parts], device="cpu").repeat_interleave(sizes)
    depths = torch.tensor([depth for depth, _, _ in parts], device="cpu").repeat_interleave(sizes)

    def ancestors(of: Tensor) -> Tensor:
        """Return ``[len(of), S]``, True for tokens on the path to a node, or on it if the node were deeper."""
        return (of[:, None] & ((1 << depths) - 1)) == nodes

    # Deeper tokens lie further back in the prompt, so that the order of positions excludes them.
    mask = ancestors(nodes) & (positions <= positions[:, None])
    leaves = torch.arange(1 << (last - first + 1), device="cpu")
    path = ancestors(leaves).nonzero()[:, 1].reshape(len(leaves), -1)
    shared = torch.arange(before, device="cpu").expand(len(leaves), -1)
    seen = mask.new_ones(len(mask), before)
    return _Layout(positions, nodes, torch.cat([seen, mask], 1), torch.cat([shared, before + path], 1))


def leaf_logits(
    model: Any, tree: PrefixTree, tokens: Tensor, absent: Tensor, owners: Tensor, keep: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Evaluate a causal model on all masked variants of one prompt.

    Args:
        model: A causal model of `transformers` in eval mode, for which :func:`why_not` returns None.
        tree: The plan of the prompt.
        tokens: Int64 ``[T]``, the prompt.
        absent: Int64 ``[T]``, the replacement of each token when its player is absent.
        owners: Int64 ``[T]``, the player that owns each token, or -1.
        keep: The number of last tokens whose logits are returned; none of them before the last player's first token.

    Yields:
        Pairs: the subsets, int64 ``[m]``, bit i = player i is present; and their logits, ``[m, keep, V]``, with the
        model's dtype and device. Together they are all 2^n subsets, each once, in the order of the tree.
    """
    yield from Walk(model, tree, tokens, absent, tree.levels(owners), keep).leaf_logits()


class Walk:
    """The evaluation of a tree by a model; see :func:`leaf_logits`, whose `owners` are here the levels of players."""

    def __init__(self, model: Any, tree: PrefixTree, tokens: Tensor, absent: Tensor, levels: Tensor, keep: int) -> None:
        self.model = model
        self.tree = tree
        self.tokens, self.absent = tokens, absent
        self.levels = levels
        self.keep = keep
        self.cache_argument = cache_argument(parameters_of(model))
        self.layouts = [_layout(tree, *block) for block in tree.blocks]

    @property
    def forwards(self) -> int:
        """The number of forwards."""
        total, calls = int(self.tree.bounds[1] > 0), {1: 1}  # of a block the number of forwards by their rows
        for block, (first, last) in enumerate(self.tree.blocks):
            total += sum(calls.values())
            if block + 1 == len(self.tree.blocks):
                break
            most, below = self._rows(block + 1), Counter[int]()
            for rows, count in calls.items():
                full, rest = divmod(rows << (last - first + 1), most)
                below[most] += count * full
                below[rest] += count * bool(rest)
            calls = {rows: count for rows, count in below.items() if count}
        return total

    def leaf_logits(self, part: tuple[int, int] = (0, 1)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield subsets, and the logits at their last tokens.

        Args:
            part: (i, k): only the i-th of k parts of the forwards that end in leaves, with those above them.
        """
        total = self._bottom_forwards(0, 1)
        start, stop = (-(-total * number // part[1]) for number in (part[0], part[0] + 1))
        for leaves, logits in self._leaves(range(start, stop)):
            yield self.tree.table_index(leaves), logits

    def _leaves(self, wanted: range) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield leaves, and the logits at their last tokens; of all forwards that end in leaves those in a range."""
        if not wanted:
            return
        shared = self.tree.bounds[1]
        known: KeysValues = []
        if shared:
            _, known = self._forward(
                self.tokens[None, :shared],
                torch.arange(shared, device="cpu"),
                [],
                None,
                keep=torch.tensor([0], device="cpu"),
            )
        yield from self._descend(0, torch.tensor([0], device="cpu"), known, 0, wanted)

    def _descend(
        self, block: int, rows: Tensor, known: KeysValues, start: int, wanted: range
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go from nodes on the level above a block, with their keys and values, down to the leaves: depth first.

        `start` is the number of the first forward below that ends in leaves.
        """
        first, last = self.tree.blocks[block]
        layout = self.layouts[block]
        is_bottom = block == len(self.layouts) - 1
        inner = torch.arange(1 << (last - first + 1), device="cpu")
        ends = self._ends(layout, last) if is_bottom else torch.tensor([0], device="cpu")
        logits, known = self._forward(self._fill(rows, layout, first), layout.positions, known, layout.mask, keep=ends)
        nodes = (rows[:, None] | inner << (first - 1)).flatten()
        if is_bottom:
            yield nodes, logits.reshape(len(nodes), self.keep, -1)
            return
        of = torch.cartesian_prod(torch.arange(len(rows), device="cpu"), torch.arange(len(inner), device="cpu"))
        for part in torch.split(torch.arange(len(nodes), device="cpu"), self._rows(block + 1)):
            below = self._bottom_forwards(block + 1, len(part))
            if start < wanted.stop and start + below > wanted.start:
                row, leaf = of[part].unbind(1)
                selected = _select(known, row, layout.paths[leaf])
                yield from self._descend(block + 1, nodes[part], selected, start, wanted)
            start += below

    def _bottom_forwards(self, block: int, rows: int) -> int:
        """Return the number of forwards that end in leaves, from a forward of a block with so many rows on."""
        if block == len(self.layouts) - 1:
            return 1
        first, last = self.tree.blocks[block]
        most = self._rows(block + 1)
        full, rest = divmod(rows << (last - first + 1), most)
        below = full * self._bottom_forwards(block + 1, most) if full else 0
        return below + (self._bottom_forwards(block + 1, rest) if rest else 0)

    def _fill(self, rows: Tensor, layout: _Layout, first: int) -> Tensor:
        """Return the tokens of a block's packed sequence, ``[rows, S]``: each present or absent as its owner is."""
        bits = rows[:, None] | layout.nodes << (first - 1)
        levels = self.levels[layout.positions]
        present = (levels == 0) | (bits >> (levels - 1).clamp(min=0) & 1).bool()
        return torch.where(present, self.tokens[layout.positions], self.absent[layout.positions])

    def _ends(self, layout: _Layout, last: int) -> Tensor:
        """Return the positions of the leaves' last tokens in the packed sequence, leaf after leaf."""
        size = self.tree.bounds[last + 1] - self.tree.bounds[last]
        ends = torch.arange(len(layout.positions) - size * len(layout.paths), len(layout.positions), device="cpu")
        return ends.reshape(len(layout.paths), size)[:, -self.keep :].flatten()

    def _rows(self, block: int) -> int:
        """Return the number of rows of a forward, from sizes alone: the same call gives the same answer."""
        rows = _KEYS // self.layouts[block].mask.shape[1]
        if block == len(self.layouts) - 1:
            rows = min(rows, _LOGITS // (vocabulary_size(self.model) * self.keep * len(self.layouts[block].paths)))
        return max(rows, 1)

    def _forward(
        self, ids: Tensor, positions: Tensor, known: KeysValues, mask: Tensor | None, keep: Tensor
    ) -> tuple[Tensor, KeysValues]:
        """Return the logits ``[rows, len(keep), V]`` at some positions, and all keys and values after the forward."""
        device, dtype = self.model.device, self.model.dtype
        cache = filled_cache(known)
        assert self.cache_argument is not None  # or `why_not` had a reason
        cached = {self.cache_argument: cache}
        additive = None
        if mask is not None:  # a mask of numbers is what both implementations of attention take
            hidden = torch.zeros(mask.shape, dtype=dtype, device="cpu").masked_fill(~mask, torch.finfo(dtype).min)
            additive = hidden.to(device).expand(len(ids), 1, -1, -1)
        logits = kept_logits(
            self.model,
            keep.to(device),
            input_ids=ids.to(device),
            attention_mask=additive,
            position_ids=positions.to(device).expand(len(ids), -1),
            use_cache=True,
            **cached,
        )
        return logits, keys_and_values(cache)


def _select(known: KeysValues, rows: Tensor, paths: Tensor) -> KeysValues:
    """Select for each of the given rows the keys and values along one path, ``[N, P]``."""

    def along(cached: Tensor) -> Tensor:
        return cached.transpose(1, 2)[rows[:, None].to(cached.device), paths.to(cached.device)].transpose(1, 2)

    return [(along(keys), along(values)) for keys, values in known]
