from itertools import product
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_causal
from transformers import LlamaForCausalLM

from captum_lkn.causal import prefix_tree
from captum_lkn.causal.caches import kept_logits
from captum_lkn.causal.prefix_tree import PrefixTree, leaf_logits, why_not, worth_it
from captum_lkn.causal.walks import Leaves


def variant(owners, subset):
    """Return for each token of one masked variant whether it is as it was."""
    return tuple(owner < 0 or bool(subset >> owner & 1) for owner in owners)


def all_logits(model, tokens, absent, owners, players, keep):
    """One variant a forward, all of its logits."""
    rows = []
    for subset in range(1 << players):
        present = variant(owners, subset)
        ids = [a if there else b for a, b, there in zip(tokens, absent, present, strict=True)]
        rows.append(model(input_ids=torch.tensor([ids])).logits[0, -keep:])
    return torch.stack(rows)


def tree_logits(model, tokens, absent, owners, players, keep):
    owners = torch.tensor(owners)
    tree = PrefixTree.of(owners, players)
    found = [None] * (1 << players)
    for subsets, logits in leaf_logits(model, tree, torch.tensor(tokens), torch.tensor(absent), owners, keep):
        for subset, row in zip(subsets.tolist(), logits, strict=True):
            assert found[subset] is None
            found[subset] = row
    return torch.stack(found)


def test_a_walk_without_room_takes_back_what_it_told_the_bar():
    def leaves(part=(0, 1)):
        for first in (0, 2):
            yield torch.tensor([first, first + 1]), torch.zeros(2, 1, 3)
        raise MemoryError

    walk = SimpleNamespace(leaf_logits=leaves, tree=SimpleNamespace(tokens=9, plain_tokens=20))
    told = []
    found = Leaves(walk, lambda logits: logits[:, 0, 0].double(), lambda *_: None).evaluate((0, 1), told.append)
    assert found.outputs is None
    assert found.evaluation["reason"] == "its prefixes have no room"
    assert (told, sum(told)) == ([2, 2, -4], 0)


@st.composite
def prompts(draw):
    """Owners of a prompt's tokens, every player among them, in any order, in pieces."""
    players = draw(st.integers(1, 5))
    more = draw(st.lists(st.integers(-1, players - 1), max_size=6))
    return draw(st.permutations([*range(players), *more])), players


@given(prompts())
def test_the_tree_has_as_many_tokens_as_the_variants_have_distinct_prefixes(prompt):
    owners, players = prompt
    tree = PrefixTree.of(torch.tensor(owners), players)
    variants = [variant(owners, subset) for subset in range(1 << players)]
    assert tree.tokens == len({row[:end] for row in variants for end in range(1, len(owners) + 1)})
    assert tree.plain_tokens == sum(map(len, variants))


@given(prompts())
def test_a_segment_depends_on_the_players_before_its_end_alone(prompt):
    owners, players = prompt
    tree = PrefixTree.of(torch.tensor(owners), players)
    assert sorted(tree.order) == list(range(players))
    for level, end in enumerate(tree.bounds[1:]):
        assert set(owners[:end]) - {-1} == set(tree.order[:level])


@given(prompts())
def test_blocks_hold_each_level_once_from_the_top(prompt):
    owners, players = prompt
    tree = PrefixTree.of(torch.tensor(owners), players)
    assert [level for a, b in tree.blocks for level in range(a, b + 1)] == list(range(1, players + 1))


def test_leaves_are_subsets():
    tree = PrefixTree.of(torch.tensor([2, 0, -1, 1]), 3)
    for bits in product([0, 1], repeat=3):  # of the levels 1, 2, 3: players 2, 0, 1
        leaf = torch.tensor([sum(bit << k for k, bit in enumerate(bits))])
        assert int(tree.table_index(leaf)) == (bits[0] << 2) + (bits[1] << 0) + (bits[2] << 1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "qwen2"])
@torch.no_grad()
def test_logits_are_those_of_the_plain_forward(family, attention):
    model = tiny_causal(family, attn_implementation=attention)
    owners = [-1, 2, 0, -1, 2, 3, 0, 1, 1, -1, 3]
    tokens, absent = list(range(5, 16)), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]
    found = tree_logits(model, tokens, absent, owners, 4, keep=2)
    torch.testing.assert_close(found, all_logits(model, tokens, absent, owners, 4, keep=2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("block", "keys"), [(2, 1 << 12), (8, 1), (8, 40), (1 << 12, 1)])
@settings(max_examples=5, deadline=None)
@given(prompt=prompts())
@torch.no_grad()
def test_logits_do_not_depend_on_how_the_tree_is_cut(block, keys, prompt):
    owners, players = prompt
    model = tiny_causal("llama")
    tokens, absent = list(range(1, len(owners) + 1)), [20] * len(owners)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "_BLOCK", block)
        patch.setattr(prefix_tree, "_KEYS", keys)
        found = tree_logits(model, tokens, absent, owners, players, keep=1)
    torch.testing.assert_close(found, all_logits(model, tokens, absent, owners, players, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [1, 10, 1000])
@torch.no_grad()
def test_every_token_of_the_tree_is_computed_once(block, monkeypatch):
    monkeypatch.setattr(prefix_tree, "_BLOCK", block)
    model, computed = tiny_causal("llama"), []
    model.model.layers[0].register_forward_pre_hook(lambda _, args: computed.append(args[0].shape[:2].numel()))
    owners = [-1, -1, 0, 1, -1, 2, 3, -1]
    tree_logits(model, list(range(8)), [9] * 8, owners, 4, keep=1)
    assert sum(computed) == PrefixTree.of(torch.tensor(owners), 4).tokens == 2 + 2 + 2 * 4 + 8 + 2 * 16


@torch.no_grad()
def test_a_forward_has_no_more_logits_than_allowed(monkeypatch):
    monkeypatch.setattr(prefix_tree, "_BLOCK", 8)
    monkeypatch.setattr(prefix_tree, "_LOGITS", 29 * 8)
    model, kept = tiny_causal("llama"), []
    model.lm_head.register_forward_hook(lambda _, args, output: kept.append(output.numel()))
    tree_logits(model, list(range(7)), [9] * 7, [-1, 0, 1, 2, 3, 4, 5], 6, keep=1)
    assert max(kept) == 29 * 8
    assert sum(kept) >= 29 * 64


@pytest.mark.parametrize("keep", [2, torch.tensor([0, 3])])
@torch.no_grad()
def test_logits_of_a_forward_that_cannot_choose(keep):
    class Old(LlamaForCausalLM):
        def forward(self, input_ids, return_dict):
            return super().forward(input_ids=input_ids)

    new = tiny_causal("llama")
    old = Old(new.config).eval()
    old.load_state_dict(new.state_dict())
    ids = torch.tensor([[1, 2, 3, 4], [4, 5, 6, 7]])
    torch.testing.assert_close(kept_logits(old, keep, input_ids=ids), kept_logits(new, keep, input_ids=ids))


def test_players_at_the_end_share_most():
    def tree(before, players, after):
        return PrefixTree.of(torch.tensor([-1] * before + list(range(players)) + [-1] * after), players)

    assert tree(2, 10, 0).plain_tokens / tree(2, 10, 0).tokens == pytest.approx(6.0)
    assert worth_it(tree(2, 10, 0))
    assert worth_it(tree(2, 10, 5))
    assert worth_it(tree(50, 1, 0))
    assert not worth_it(tree(0, 2, 20))
    assert not worth_it(tree(0, 1, 0))


ALL = {"attention_mask", "position_ids", "past_key_values", "use_cache"}


@pytest.mark.parametrize(
    ("family", "config", "parameters", "reason"),
    [
        ("llama", {}, ALL, None),
        ("mistral", {"sliding_window": None}, ALL, None),
        ("mistral", {"sliding_window": 8}, ALL, "its cache has layers of DynamicSlidingWindowLayer"),
        ("llama", {}, ALL - {"position_ids"}, "its forward takes no position_ids"),
        ("llama", {}, ALL - {"past_key_values"} | {"cache"}, None),  # its name since transformers 5.24
        ("llama", {}, ALL - {"past_key_values"}, "its forward takes no past_key_values"),
        ("llama", {"alibi": True}, ALL, "its positions or its state"),
    ],
)
def test_what_forbids_a_tree(family, config, parameters, reason):
    found = why_not(tiny_causal(family, **config), parameters)
    assert found is None if reason is None else found.startswith(reason)


def test_other_attention_forbids_a_tree():
    model = tiny_causal("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert why_not(model, ALL).startswith("its attention, flash_attention_2, takes no tree mask")


@pytest.mark.parametrize(
    ("owners", "message"),
    [
        (torch.zeros(1, 2).long(), r"owners must be \[T\].*got \[1, 2\]"),
        (torch.tensor([0, 2, -1]), "none of player 1"),
    ],
)
def test_owners_that_make_no_tree(owners, message):
    with pytest.raises(ValueError, match=message):
        PrefixTree.of(owners, 3)
