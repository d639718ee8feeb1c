"""One sample whose masks are divided: the parts together give what one evaluation gives, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_studies import Net
from tiny_models import BERT, made, tiny_causal
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from captum_lkn import AndOrInteraction, LayerAndOrInteraction, players_from_mask, text_players
from captum_lkn.attribution.divided import DividedSample
from captum_lkn.attribution.outputs import evaluate_outputs
from captum_lkn.causal import prefix_tree
from captum_lkn.causal.continuation import Continuation
from captum_lkn.causal.prefix_tree import PrefixTree, Walk
from captum_lkn.values.rows import Part

OPTIONS = {"perturbations_per_eval": 16}
ROW = torch.arange(1.0, 9.0)[None].sin()


@given(st.integers(1, 3000), st.integers(1, 300), st.integers(1, 12))
def test_parts_are_a_partition_that_cuts_no_forward(total, together, count):
    ranges = [Part(number, count).rows(total, together) for number in range(count)]
    assert [row for part in ranges for row in part] == list(range(total))
    assert all(part.start % together == 0 for part in ranges if part)
    assert all(len(part) >= 64 for part in ranges if part and part.stop < total)
    sizes = [-(-len(part) // together) for part in ranges]
    units = -(-64 // together)
    assert max(sizes) - min(sizes) < 2 * units


@given(st.integers(2, 7), st.integers(2, 40), st.integers(8, 60), st.integers(1, 9))
def test_parts_of_a_prefix_tree_are_whole_subtrees(players, block, keys, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "_BLOCK", block)
        patch.setattr(prefix_tree, "_KEYS", keys)
        owners = torch.arange(players)
        tree = PrefixTree.of(owners, players)
        walk = Walk(Fake(), tree, owners, owners, tree.levels(owners), 1)
        whole = [subsets.tolist() for subsets, _ in walk.leaf_logits()]
        parts = [[subsets.tolist() for subsets, _ in walk.leaf_logits((i, count))] for i in range(count)]
    assert [subsets for part in parts for subsets in part] == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


class Fake:
    """The parts of a model that a walk uses; it has no keys and no logits."""

    device, dtype = torch.device("cpu"), torch.float32
    config = BertConfig(vocab_size=2)

    def __call__(self, input_ids, past_key_values, **arguments):
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 1)})

    forward = __call__


def layered():
    probe = torch.nn.Linear(4, 3)
    with torch.no_grad():
        probe.weight.copy_(torch.arange(12.0).reshape(3, 4).sin())
    return LayerAndOrInteraction(Net().eval(), ["hidden", "output"], probe={"hidden": probe}, kappa=0.05)


def prompts():
    return players_from_mask({"input_ids": torch.arange(3, 12)[None]}, 1, torch.arange(-1, 8)[None])


CASES = {
    "rows": lambda: (AndOrInteraction(Net().eval()), players_from_mask(ROW), OPTIONS),
    "layers": lambda: (layered(), players_from_mask(ROW), OPTIONS),
    "sampled": lambda: (layered(), players_from_mask(torch.cat([ROW, -ROW], 1)), {**OPTIONS, "n_samples": 400}),
    "one value a batch": lambda: (
        AndOrInteraction(lambda x: x.tanh().prod() + x.amax(), score="logit"),
        players_from_mask(ROW),
        {"perturbations_per_eval": 1},
    ),
    "prefix tree": lambda: (AndOrInteraction(Continuation(tiny_causal("llama"), [5]), kappa=0.01), prompts(), {}),
    "no prefix tree": lambda: (
        AndOrInteraction(Continuation(tiny_causal("llama"), [5], share_prefixes=False), kappa=0.01),
        prompts(),
        OPTIONS,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_parts_together_give_what_attribute_gives(case, monkeypatch):
    monkeypatch.setattr(prefix_tree, "_BLOCK", 8)
    monkeypatch.setattr(prefix_tree, "_KEYS", 100)
    method, players, options = CASES[case]()
    target = None if method.score.name == "logit" or "tree" in case else "predicted"
    expected = method.attribute([players], target=target, **options)
    sample = DividedSample(method, players, target, **options)
    parts = [sample.evaluate(Part(number, 3)) for number in range(3)]
    assert all(len(part.columns) for part in parts)
    assert sample.fits(parts)
    assert not sample.fits(parts[:2])
    assert not sample.fits([parts[0], parts[1], parts[1]])
    results, kept = sample.explain(parts)
    assert kept is None
    for label, found in results.items():
        one = (expected[label] if isinstance(expected, dict) else expected)[0]
        assert found.provenance == one.provenance
        assert torch.equal(found.effects.values, one.effects.values)
        assert torch.equal(found.effects.members, one.effects.members)
        assert repr(found) == repr(one)


def test_removed_words_are_left_out_of_parts_as_well(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    players = text_players(BertTokenizerFast(str(tmp_path / "vocab.txt")), "a b c d e f g h", removal=True)
    method = AndOrInteraction(made(BertForSequenceClassification, BertConfig, **BERT), kappa=0.01)
    expected = method.attribute(players, target=0, **OPTIONS)[0]
    sample = DividedSample(method, players, 0, **OPTIONS)
    found = sample.explain([sample.evaluate(Part(number, 3)) for number in range(3)])[0]["output"]
    assert found.provenance == expected.provenance
    assert found.provenance["evaluation"] == "removed tokens dropped"
    assert torch.equal(found.values, expected.values)


def test_kept_outputs_of_parts():
    method, players, options = CASES["rows"]()
    sample = DividedSample(method, players, "predicted", keeps_outputs=True, **options)
    results, kept = sample.explain([sample.evaluate(Part(number, 2)) for number in range(2)])
    (expected,) = evaluate_outputs(method, [players], **options)
    assert torch.equal(kept.outputs, expected.outputs)
    assert kept.provenance == expected.provenance
    assert torch.equal(results["output"].values, method.attribute(players, target="predicted")[0].values)


def test_parts_are_of_one_sample():
    with pytest.raises(ValueError, match="players must be of one sample; got 2"):
        DividedSample(AndOrInteraction(Net().eval()), players_from_mask(torch.cat([ROW, ROW])), 0).evaluate(Part(0, 2))


@pytest.mark.parametrize("part", [(0, 0), (2, 2), (-1, 2)])
def test_a_part_of_a_prefix_tree_that_does_not_exist_is_refused(part):
    with pytest.raises(ValueError, match=r"part must be \(i, k\), the i-th of k parts from 0; got \("):
        Continuation(tiny_causal("llama"), [5]).part_of_masks(prompts(), 0, part=part)
