"""Every tensor that the library makes says its device: the default one may be another than that of the inputs.

The meta device stands for it. A tensor without data cannot meet one with data unnoticed: reading it is an error.
"""

import pytest
import torch
from tiny_models import BERT, made, tiny_causal
from tiny_tokenizers import word_level
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from captum_lkn import (
    AndOrInteraction,
    Continuation,
    ExactShapleyValues,
    InteractionsBatch,
    LayerAndOrInteraction,
    LayerwiseKnowledge,
    LinearProbes,
    average_baselines,
    check_model,
    check_players,
    check_score,
    compare_baselines,
    decompose,
    image_players,
    learn_baseline,
    logit_lens,
    mean_embedding,
    players_as_embeddings,
    players_from_mask,
    select_players,
    text_players,
)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).eval()


PLAIN = {"kind": "and", "noise": 0}  # needs no solver; "tables" has one
NET, X = network(), normal(2, 4)
TABLES = normal(3, 16).double()
BERT_MODEL = made(BertForSequenceClassification, BertConfig, **BERT)
CAUSAL = tiny_causal("llama")
IDS = torch.tensor([[2, 5, 6, 7, 8], [2, 9, 7, 3, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def squares(image):
    return image.square().sum((1, 2, 3))


def shapley(model=NET, x=X):
    return ExactShapleyValues(model).attribute(x, target=0)


def interactions():
    return AndOrInteraction(NET, **PLAIN).attribute(
        X, target=0, feature_mask=torch.tensor([[0, 1, 2, -1]], device="cpu")
    )


def files(path):
    AndOrInteraction(NET, **PLAIN).attribute(X, target=0).save(path / "found.safetensors")
    return InteractionsBatch.load(path / "found.safetensors")[1].values


def layers():
    (found,) = LayerAndOrInteraction(NET, ["1"], probe=NET[2], **PLAIN).attribute(X, target=0).values()
    return found.attributions()


def knowledge():
    data = [(normal(40, 4), (normal(40, 4)[:, 0] > 0).long())]
    probes = LinearProbes.fit(NET, ["0", "1"], data, penalties=[0.01])
    change = LayerwiseKnowledge(NET, ["0", "1"], probes=probes, **PLAIN).analyze(X, target=0)
    return torch.tensor(len(repr(change.with_noise_ceiling(draws=1))), device="cpu")


def words():
    players = text_players(word_level(), ["bad good not", "good a b"])
    found = AndOrInteraction(BERT_MODEL, **PLAIN).attribute(players, target=1)
    return found.attributions().sum()


def removed_words():
    players = text_players(word_level(), ["bad good not", "good a b"], removal=True)
    return AndOrInteraction(BERT_MODEL, **PLAIN).attribute(players, target=1)[1].values


def embeddings():
    players = players_from_mask({"input_ids": IDS, "attention_mask": MASK}, baselines=1)
    vector = mean_embedding(BERT_MODEL, {"input_ids": IDS, "attention_mask": MASK})
    inside = players_as_embeddings(BERT_MODEL, players, baseline=vector)
    return ExactShapleyValues(BERT_MODEL).attribute(inside, target=0)


def lens():
    method = LayerAndOrInteraction(BERT_MODEL, ["bert.encoder.layer.1"], probe=logit_lens(BERT_MODEL), **PLAIN)
    (found,) = method.attribute({"input_ids": IDS, "attention_mask": MASK}, baselines=1, target=0).values()
    return found[0].values


def prompts():
    continued = Continuation(CAUSAL, torch.tensor([3, 4], device="cpu"))
    ids = torch.arange(2, 8, device="cpu")[None]
    return AndOrInteraction(continued, **PLAIN).attribute({"input_ids": ids}, baselines=1)[0].values


def pictures():
    return (
        AndOrInteraction(squares, score="logit", **PLAIN).attribute(image_players(normal(1, 3, 4, 4), grid=2))[0].values
    )


def selection():
    chosen = select_players(NET, players_from_mask(X), k=2, target=0)
    return AndOrInteraction(NET, **PLAIN).attribute(chosen, target=0)[1].values


def learned():
    found = learn_baseline(NET, players_from_mask(X), target=0, steps=2)
    return found.vector


def averaged():
    several = [AndOrInteraction(NET, **PLAIN).attribute(X, baselines=value, target=0) for value in (0.0, 0.5)]
    assert "zero - half" in str(
        compare_baselines(AndOrInteraction(NET, **PLAIN), {"zero": (X, 0), "half": (X, 0.5)}, 0)
    )
    return average_baselines(several)[0].values


def checks():
    found = [
        *check_model(NET, X, verbose=False),
        *check_score("log_odds", verbose=False),
        *check_players(players_from_mask(X), verbose=False),
    ]
    assert [str(check) for check in found if check.holds is False] == []
    return torch.zeros(1, device="cpu")


EVERYTHING = {
    "tables": lambda: decompose(TABLES).and_effects,
    "masked copies": lambda: players_from_mask(X).masked(1, torch.ones(2, 4, dtype=torch.bool, device="cpu"))[0],
    "interactions": lambda: interactions().attributions(),
    "frames and texts": lambda: torch.tensor(len(repr(interactions()) + str(interactions().to_frame())), device="cpu"),
    "Shapley values": shapley,
    "layers": layers,
    "layers compared": knowledge,
    "words": words,
    "removed words": removed_words,
    "embeddings": embeddings,
    "logit lens": lens,
    "prompts": prompts,
    "images": pictures,
    "selection": selection,
    "learned baseline": learned,
    "average of baselines": averaged,
    "checks": checks,
}


@pytest.mark.filterwarnings("ignore:kappa is small", "ignore:the decomposition stopped")
@pytest.mark.parametrize("name", EVERYTHING)
def test_the_default_device_may_be_another(name):
    expected = EVERYTHING[name]()
    with torch.device("meta"):
        found = EVERYTHING[name]()
    assert found.device.type == "cpu"
    assert torch.equal(found, expected)


def test_results_are_saved_and_loaded_under_another_default_device(tmp_path):
    expected = files(tmp_path)
    with torch.device("meta"):
        assert torch.equal(files(tmp_path), expected)
