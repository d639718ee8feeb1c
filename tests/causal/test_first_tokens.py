"""First tokens that all rows of a forward have in common are computed once."""

import threading

import pytest
import torch
from tiny_models import tiny_causal

from captum_lkn import AndOrInteraction, Continuation, players_from_mask
from captum_lkn.attribution.divided import DividedSample
from captum_lkn.causal import first_tokens
from captum_lkn.causal.first_tokens import FirstTokens, common_tokens
from captum_lkn.values.copies import copies_of_sampled
from captum_lkn.values.rows import Part


def prompt(before=12, players=21, seed=0):
    """Return players of one prompt, behind tokens that are always there."""
    ids = torch.randint(0, 28, (1, before + players), generator=torch.Generator().manual_seed(seed))
    owners = torch.cat([torch.full((before,), -1), torch.arange(players)])[None]
    return players_from_mask(ids, 28, owners)


def counting(model):
    """Return a list of the shapes of the ids of all forwards."""
    shapes = []
    model.register_forward_pre_hook(
        lambda _, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "qwen2"])
def test_values_are_those_of_plain_forwards_with_fewer_tokens(family):
    model, given = tiny_causal(family).double(), {"n_samples": 400, "perturbations_per_eval": 50}
    shapes = counting(model)
    found = {}
    for shares in (True, False):
        shapes.clear()
        says = Continuation(model, [7, 4], share_prefixes=shares)
        found[shares] = AndOrInteraction(says).attribute(prompt(), **given)[0], sum(r * t for r, t in shapes)
    (mine, tokens), (plain, every) = found[True], found[False]
    assert mine.provenance["evaluation"] == "first tokens shared"
    assert plain.provenance["evaluation"] == "plain"
    assert tokens < 0.7 * every  # 12 of 34 tokens are in all rows, and of the players the first few in most forwards
    assert mine.r_squared == pytest.approx(plain.r_squared, abs=1e-6)
    masks = torch.rand(40, 21, generator=torch.Generator().manual_seed(1)) < 0.5
    torch.testing.assert_close(mine.predict(masks), plain.predict(masks), rtol=0, atol=1e-3 * abs(plain.v_full))
    (ids,) = prompt().masked(0, masks)
    expected = says(ids)
    says = Continuation(model, [7, 4])
    with torch.no_grad(), says.sharing_first_tokens():
        torch.testing.assert_close(says(ids), expected, rtol=0, atol=1e-6)
    assert mine.provenance["forwards"] == plain.provenance["forwards"]


def test_a_model_whose_cache_is_wrong_is_evaluated_plainly(monkeypatch):
    model, given = tiny_causal("llama").double(), {"n_samples": 400}
    says = Continuation(model, [7, 4])
    plain = AndOrInteraction(Continuation(model, [7, 4], share_prefixes=False)).attribute(prompt(), **given)[0]
    for fault in (lambda keys: 2 * keys, lambda keys: keys[:, :, :0], TypeError, AttributeError):
        with monkeypatch.context() as changed:
            from transformers import DynamicCache

            update = DynamicCache.update

            def wrong(self, keys, values, layer, *more, fault=fault, update=update, **named):
                if isinstance(fault, type):
                    raise fault("no such cache")
                return update(self, fault(keys) if keys.shape[0] > 1 else keys, values, layer, *more, **named)

            changed.setattr(DynamicCache, "update", wrong)
            found = AndOrInteraction(says).attribute(prompt(), **given)[0]
        assert found.provenance["evaluation"] == "plain"
        assert [x.effect for x in found.top(5)] == pytest.approx([x.effect for x in plain.top(5)], rel=1e-9)


def test_parts_of_sampled_masks_share_first_tokens_as_the_whole_does():
    says = Continuation(tiny_causal("llama"), [7, 4])
    method, given = AndOrInteraction(says), {"n_samples": 400, "perturbations_per_eval": 32}
    whole = method.attribute(prompt(), **given)[0]
    sample = DividedSample(method, prompt(), None, **given)
    parts = [sample.evaluate(Part(number, 3)) for number in range(3)]
    assert sample.fits(parts)
    results, _ = sample.explain(parts)
    assert torch.equal(results["output"].effects.values, whole.effects.values)
    assert results["output"].provenance == whole.provenance


def test_rows_are_alike_from_the_start_and_without_padding():
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]] * 4)
    every = torch.ones_like(ids)
    assert common_tokens(ids, every, 1) == 5  # the last token is read
    assert common_tokens(ids, every, 3) == 3
    assert common_tokens(ids[:1], every[:1], 1) == 0
    ids[2, 1] = 9
    assert common_tokens(ids, every, 1) == 0  # one of six tokens is not worth it
    assert common_tokens(torch.tensor([[1, 2, 3], [1, 2, 4]]).repeat(2, 1), torch.ones(4, 3), 1) == 2
    every[0, 0] = 0
    assert common_tokens(ids[:, :0].new_ones(4, 6), every, 1) == 0


def test_masks_in_order_are_those_that_were_drawn():
    players = players_from_mask(torch.tensor([[3, 1, 4, 28, 5]]), 28, torch.tensor([[2, 0, 1, 3, 1]]))
    every = torch.tensor([[s >> i & 1 == 1 for i in range(4)] for s in torch.randperm(16).tolist()])
    copies = copies_of_sampled(players, {4: (every, every[:0], every[:0])}, in_order=True)
    samples, masks = copies.take(range(copies.total))
    assert copies.total == 8  # player 3 is absent already
    assert masks[:, [2, 0, 1]].tolist() == [[bool(s & 4), bool(s & 2), bool(s & 1)] for s in range(8)]
    assert torch.equal(masks[copies.places][:, :3], every[:, :3])
    assert samples.tolist() == [0] * 8


def test_provenance_says_shared_only_where_a_forward_shared_something():
    says, given = Continuation(tiny_causal("llama"), [7]), {"n_samples": 400, "perturbations_per_eval": 64}
    ids = torch.randint(0, 28, (1, 21), generator=torch.Generator().manual_seed(0))
    scattered = torch.cat([torch.arange(20).flip(0), torch.tensor([19])])[None]  # player 19 owns the first token
    one_row = AndOrInteraction(says).attribute(
        players_from_mask(ids, 28, scattered), n_samples=400, perturbations_per_eval=1
    )
    assert one_row[0].provenance["evaluation"] == "plain"
    assert AndOrInteraction(says).attribute(prompt(), **given)[0].provenance["evaluation"] == "first tokens shared"


def test_a_late_failure_leaves_what_was_shared_in_provenance(monkeypatch):
    whole, calls = FirstTokens._last_logits, []

    def failing(self, *given):
        calls.append(given)
        if len(calls) == 3:
            raise RuntimeError("late")
        return whole(self, *given)

    monkeypatch.setattr(FirstTokens, "_last_logits", failing)
    says = Continuation(tiny_causal("llama"), [7])
    found = AndOrInteraction(says).attribute(prompt(), n_samples=400, perturbations_per_eval=50)[0]
    assert len(calls) == 3
    assert found.provenance["evaluation"] == "first tokens shared"


def test_lack_of_memory_for_keys_and_values_makes_forwards_plain_and_not_smaller(monkeypatch, recwarn):
    model = tiny_causal("llama").double()
    plain = AndOrInteraction(Continuation(model, [7], share_prefixes=False))
    given = {"n_samples": 400, "perturbations_per_eval": 50}
    expected = plain.attribute(prompt(), **given)[0]
    shapes, calls = counting(model), []

    def no_room(known):
        calls.append(len(known))
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(first_tokens, "filled_cache", no_room)
    found = AndOrInteraction(Continuation(model, [7])).attribute(prompt(), **given)[0]
    assert len(calls) == 1
    assert found.provenance["evaluation"] == "plain"
    assert found.provenance["forwards"] == expected.provenance["forwards"]
    assert sum(rows == 50 for rows, _ in shapes) == 8
    assert not [one for one in recwarn if "memory" in str(one.message)]
    assert [x.effect for x in found.top(5)] == pytest.approx([x.effect for x in expected.top(5)], rel=1e-9)


def test_ids_beyond_the_vocabulary_are_refused_before_a_forward():
    says = Continuation(tiny_causal("llama"), [7])
    ids = torch.full((8, 9), 10_000)
    with pytest.raises(ValueError, match="10000") as plain, torch.no_grad():
        says(ids)
    shapes = counting(says.module)
    with says.sharing_first_tokens() as shared, pytest.raises(ValueError, match="10000") as found, torch.no_grad():
        says(ids)
    assert str(found.value) == str(plain.value)
    assert (shapes, shared.failed) == ([], False)


def test_contexts_inside_one_another_and_other_threads_are_apart():
    says, other = (Continuation(tiny_causal("llama"), [token]) for token in (7, 4))
    (ids,) = prompt().masked(0, torch.rand(8, 21, generator=torch.Generator().manual_seed(2)) < 0.5)
    with torch.no_grad(), says.sharing_first_tokens() as outer:
        with says.sharing_first_tokens() as inner:
            says(ids)
        with other.sharing_first_tokens() as others:
            says(ids)
            other(ids)
        thread = threading.Thread(target=lambda: says(ids))
        thread.start()
        thread.join()
        assert (outer.shared, inner.shared, others.shared) == (0, 1, 1)
        says(ids)
    says(ids)
    assert (outer.shared, inner.shared, others.shared) == (1, 1, 1)


def test_parts_without_common_tokens_fit_those_that_share_some():
    says = Continuation(tiny_causal("llama"), [7])
    method, given = AndOrInteraction(says), {"n_samples": 400, "perturbations_per_eval": 64}
    players = prompt(before=0)
    whole = method.attribute(players, **given)[0]
    sample = DividedSample(method, players, None, **given)
    parts = [sample.evaluate(Part(number, 7)) for number in range(7)]
    kinds = {part.evaluation["evaluation"] for part in parts}
    assert kinds == {"plain", "first tokens shared"}
    assert sample.fits(parts)
    assert sample.explain(parts)[0]["output"].provenance == whole.provenance


def test_a_prompt_of_which_few_copies_differ_is_evaluated_without_a_tree():
    model = tiny_causal("llama").double()
    ids = torch.full((1, 9), 28)
    ids[0, 8] = 3
    says = Continuation(model, [7])
    few = players_from_mask(ids, 28)
    expected = [float(says(copy[None]).detach()) for copy in few.masked(0, torch.tensor([[False] * 9, [True] * 9]))[0]]
    shapes = counting(model)
    found = AndOrInteraction(says).attribute(few)[0]
    assert found.provenance["evaluation"] == "plain"
    assert found.provenance["reason"] == "few of its masked copies differ"
    assert sum(rows * tokens for rows, tokens in shapes) < 100  # a tree takes 1,022
    assert found.values.unique().tolist() == pytest.approx(sorted(expected), abs=1e-9)
    ids[0, 1:] = 3
    assert AndOrInteraction(says).attribute(players_from_mask(ids, 28))[0].provenance["evaluation"] == "prefix tree"


def test_a_plan_tries_forwards_that_share_as_those_of_the_run_do():
    model, given = tiny_causal("llama"), {"n_samples": 800, "perturbations_per_eval": 32}
    players, method = prompt(), AndOrInteraction(Continuation(model, [7]))
    shapes = counting(model)
    plan = method.plan(players, **given)
    # The first one, one for memory, one for time: they share some of the players beside the 12 tokens before these.
    assert sum(tokens < 20 for rows, tokens in shapes if rows == 32) == 3
    assert plan.forwards == method.attribute(players, **given)[0].provenance["forwards"]
