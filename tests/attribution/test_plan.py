import re

import pytest
import torch
from tiny_models import tiny_causal

from captum_lkn import AndOrInteraction, Continuation, LayerwiseKnowledge, players_from_mask, text_players
from captum_lkn.attribution import plan
from captum_lkn.causal import continuation as continuations
from captum_lkn.decomposition import DecompositionOptions


class Counted:
    """Counts the forwards of a module and their tokens, also in functions that call only parts of it."""

    def __init__(self, module):
        self.forwards = self.tokens = 0
        module.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, args, kwargs):
        self.forwards += 1
        ids = kwargs.get("input_ids", args[0] if args else None)
        self.tokens += ids.shape[:2].numel() if ids.dim() == 2 else 0

    def take(self):
        found, self.forwards, self.tokens = (self.forwards, self.tokens), 0, 0
        return found


class Net(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x.prod(1), x.amax(1)], 1)


class WholeBatch(torch.nn.Module):
    def forward(self, x):
        return x.prod(1).sum()


@pytest.mark.parametrize(
    ("net", "rows", "options"),
    [
        (Net(), 3, {}),
        (Net(), 3, {"perturbations_per_eval": 7}),
        (Net(), 1, {"perturbations_per_eval": 5, "n_samples": 200}),
        (Net(), 2, {"n_samples": 200}),
        (WholeBatch(), 2, {}),
    ],
)
def test_the_forwards_are_those_of_the_run(net, rows, options):
    counted = Counted(net.eval())
    method = AndOrInteraction(net, score="logit")
    x = 1 + torch.rand(rows, 9, generator=torch.Generator().manual_seed(0))
    target = 0 if isinstance(net, Net) else None
    found = method.plan(x, target=target, **options)
    counted.take()
    method.attribute(x, target=target, **options)
    assert found.forwards == counted.take()[0]
    assert found.masks == (1 if target is None else rows) * (200 if "n_samples" in options else 512)
    assert (found.tokens, found.samples, found.tried, found.players) == (None, rows, rows, (9, 9))


@pytest.mark.parametrize("removal", [False, True])
@pytest.mark.parametrize("n_samples", [None, 180])
def test_tokens_are_those_of_the_run(sentiment, removal, n_samples):
    model, tokenizer = sentiment
    texts = ["not a very good film at all", "a dull scene"]
    players = [text_players(tokenizer, text, removal=removal) for text in texts]
    counted, method = Counted(model), AndOrInteraction(model)
    found = method.plan(players, target=1, n_samples=n_samples, perturbations_per_eval=50)
    counted.take()
    method.attribute(players, target=1, n_samples=n_samples, perturbations_per_eval=50)
    assert (found.forwards, found.tokens) == counted.take()
    assert found.evaluation == ("removed tokens dropped" if removal else "plain")
    assert (found.plain_tokens > 1.2 * found.tokens) == removal


def test_layers_are_read_in_the_same_forwards(sentiment):
    model, tokenizer = sentiment
    probe = torch.nn.Linear(model.config.hidden_size, 2)
    study, players = LayerwiseKnowledge(model, [1, 2], probes=probe), text_players(tokenizer, "never dull")
    found = study.plan(players)
    counted = Counted(model)
    study.analyze(players)
    assert (found.forwards, found.layers, found.table_memory) == (counted.take()[0], 3, 8 * 4 * 3)


def test_a_prefix_tree(causal_prompt):
    model, players, continuation = causal_prompt
    counted, method = Counted(model.model), AndOrInteraction(continuation, score="logit")
    found = method.plan(players)
    counted.take()
    result = method.attribute(players)
    assert found.evaluation == result[0].provenance["evaluation"] == "prefix tree"
    assert found.forwards == counted.take()[0]
    tree, plain = (result[0].provenance[name] for name in ("tokens", "plain_tokens"))
    assert found.plain_tokens - found.tokens == plain - tree
    plainly = AndOrInteraction(Continuation(model, [3, 4], share_prefixes=False), score="logit").plan(players)
    assert plainly.advice == ("Prefixes of prompts are not shared: share_prefixes=False",)


def test_a_tree_that_fails_is_planned_as_the_plain_evaluation_that_follows(causal_prompt, monkeypatch):
    _, players, continuation = causal_prompt
    method = AndOrInteraction(continuation, score="logit")
    monkeypatch.setattr(continuations, "difference", lambda *_: "its outputs differ")
    found = method.plan(players)
    assert (found.evaluation, found.tokens) == ("plain", found.plain_tokens)
    assert found.forwards == method.attribute(players)[0].provenance["forwards"]


@pytest.fixture
def causal_prompt():
    model = tiny_causal("llama")
    ids = torch.arange(1, 11)[None]
    return model, players_from_mask(ids, 0), Continuation(model, [3, 4])


def test_of_many_samples_three_are_tried():
    net = Net().eval()
    counted, method = Counted(net), AndOrInteraction(net, score="logit")
    samples = [players_from_mask(torch.rand(1, 6 + i % 4) + 1) for i in range(9)]
    found = method.plan(samples, target=0)
    assert counted.take()[0] < 40
    method.attribute(samples, target=0)
    assert (found.forwards, found.tried, found.samples) == (counted.take()[0], 3, 9)


def test_memory_is_that_of_the_forward():
    net = torch.nn.Sequential(torch.nn.Linear(8, 1000), torch.nn.Linear(1000, 1)).eval()
    found = AndOrInteraction(net, score="logit").plan(torch.ones(1, 8))
    assert found.rows >= 256
    assert 256 * 4000 <= found.memory < 256 * 4000 * 1.1


def test_too_many_players_are_planned_with_sampled_masks():
    found = AndOrInteraction(lambda x: x.sum(1), score="logit").plan(torch.ones(1, 50))
    assert (found.masks, found.n_samples) == (5000, 5000)
    assert re.match(r"50 players are too many.*n_samples=5000", found.advice[0])


def test_advice_for_a_long_run(monkeypatch, sentiment):
    model, tokenizer = sentiment
    monkeypatch.setattr(plan, "_LONG", 0.0)
    monkeypatch.setattr(plan, "_FEWER", 3)
    players = text_players(tokenizer, "not good at all")
    found = AndOrInteraction(model).plan(players, target=0)
    assert [text.partition(":")[0] for text in found.advice] == ["Fewer players", "Removal"]
    removed = text_players(tokenizer, "not good at all", removal=True)
    assert len(AndOrInteraction(model).plan(removed, target=0).advice) == 1


def test_it_shows_itself():
    method = AndOrInteraction(lambda x: x.prod(1), score="logit", options=DecompositionOptions(noise=0.01))
    found = method.plan(torch.ones(1, 5))
    text = repr(found)
    assert text.startswith("Plan of 1 sample, 5 players\n  masks     32, all\n  forwards  4, of up to 2048 rows\n")
    assert found.seconds == found.forward_seconds + found.solver_seconds
    assert 0 < found.solver_share < 1
    assert "<td" in found._repr_html_()


def test_errors_are_those_of_attribute():
    method = AndOrInteraction(Net().eval())
    with pytest.raises(ValueError, match="n_samples must be at least 400"):
        method.plan(torch.ones(1, 30), target=0, n_samples=50)
    with pytest.raises(ValueError, match="target"):
        method.plan(torch.ones(1, 3), target=7)
