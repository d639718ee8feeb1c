"""The walk over the prefix tree of one prompt and a continuation, where it saves work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_lkn.causal.all_masks import AllMasks, plainly
from captum_lkn.causal.prefix_tree import PrefixTree, Walk, worth_it
from captum_lkn.causal.prompts import prompt_of
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.players.players import Players

__all__ = ["walk_over"]


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
    return Walk(model, tree, present, absent, tree.levels(owners), len(continuation))
