import inspect

import pytest
import torch
import transformers
from transformers import BertTokenizerFast

from captum_lkn import ExactShapleyValues, LayerAndOrInteraction, text_players
from captum_lkn.attribution import AndOrInteraction
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model
from captum_lkn.values.removal import can_drop, without_removed

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 60}
WORDS = ["a", "quick", "test", "of", "words", "that", "can", "go"]
SETTINGS = {"score": "logit", "kind": "and", "noise": 0}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    vocabulary = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    return BertTokenizerFast(str(vocabulary))


def build(name, **sizes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes, pad_token_id=0)
    return getattr(transformers, f"{name}ForSequenceClassification")(config).eval()


def naive(model, players, sample=0):
    """Every mask in a forward of its own, all tokens computed."""
    owner = players.owners[0][sample]
    table = []
    for subset in range(2 ** players.sizes[sample]):
        mask = players.inputs[0][sample].clone()
        for position, player in enumerate(owner.tolist()):
            if player >= 0 and not subset >> player & 1:
                mask[position] = 0
        rest = {name: value[sample : sample + 1] for name, value in players.constants.items()}
        with torch.no_grad():
            table.append(float(model(attention_mask=mask[None], **rest).logits[0, 1]))
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "evaluation"),
    [
        ("Bert", "removed tokens dropped"),
        ("Roberta", "removed tokens dropped"),
        ("Electra", "removed tokens dropped"),
        ("Albert", "removed tokens dropped"),
        ("DebertaV2", "plain"),  # positions relative to the tokens that are there
        ("DistilBert", None),  # some versions take no positions
    ],
)
def test_values_are_those_of_the_model_with_a_zero_in_its_attention_mask(name, evaluation, tokenizer):
    sizes = SIZES
    if name == "DistilBert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "vocab_size": 60}
    if name == "DebertaV2":
        sizes = SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16}
    if name in ("Electra", "Albert"):
        sizes = SIZES | {"embedding_size": 12}
    model = build(name, **sizes)
    with torch.no_grad():  # a freshly drawn model hardly looks at positions
        for parameter in model.parameters():
            parameter.mul_(4)
    players = text_players(tokenizer, [" ".join(WORDS[:5]), " ".join(WORDS[2:6])], removal=True)
    if name == "DistilBert":
        players.constants.pop("token_type_ids")
    found = AndOrInteraction(model, **SETTINGS).attribute(players, target=1)
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    expected = evaluation or ("removed tokens dropped" if takes_positions else "plain")
    assert found[0].provenance["evaluation"] == expected
    for sample, one in enumerate(found):
        torch.testing.assert_close(one.values, naive(model, players, sample), atol=2e-5, rtol=2e-5)


def test_layers_are_read_from_the_shorter_rows_too(tokenizer):
    model = build("Bert", **SIZES)
    players = text_players(tokenizer, " ".join(WORDS[:4]), removal=True)
    weight = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    found = LayerAndOrInteraction(
        model, "bert.encoder.layer.0", probe=lambda feature: feature @ weight.T, **SETTINGS
    ).attribute(players, target=1)
    rows = []
    for subset in range(16):
        mask = torch.tensor([[1, *(subset >> player & 1 for player in range(4)), 1]])
        with torch.no_grad():
            hidden = model(attention_mask=mask, output_hidden_states=True, **players.constants).hidden_states[1]
        rows.append(float(hidden[0, 0] @ weight[1]))
    torch.testing.assert_close(found[0].values, torch.tensor(rows).double(), atol=1e-5, rtol=1e-5)


def test_about_half_of_the_tokens_are_computed(tokenizer):
    model = build("Bert", **SIZES)
    computed = []
    model.bert.embeddings.register_forward_hook(lambda module, args, output: computed.append(output[..., 0].numel()))
    players = text_players(tokenizer, " ".join(WORDS), removal=True)
    ExactShapleyValues(model).attribute(players, target=0)
    assert sum(computed) < 0.7 * 2**8 * 10  # [CLS] and [SEP] are always there


def test_a_group_has_the_rows_own_tokens():
    masks = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1], [1, 0, 0, 1]])
    keywords = {"input_ids": torch.arange(12).reshape(3, 4), "extra": torch.tensor([7.0, 8.0, 9.0]), "flag": True}
    groups = list(without_removed(Arguments((masks,), ("attention_mask",), (), keywords), 2))
    assert [rows.tolist() for rows, _ in groups] == [[2], [0, 1]]
    short, long = (group for _, group in groups)
    assert short.keywords["input_ids"].tolist() == [[8, 11]]
    assert short.keywords["position_ids"].tolist() == [[2, 5]]
    assert long.keywords["input_ids"].tolist() == [[0, 2, 3], [4, 5, 7]]
    assert long.keywords["extra"].tolist() == [7.0, 8.0]
    assert long.keywords["flag"] is True
    assert long.inputs[0].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_only_attention_masks_of_hugging_face_models_are_tried(tokenizer):
    model = build("Bert", **SIZES)
    removed, replaced = (text_players(tokenizer, "a quick test", removal=removal) for removal in (True, False))
    arguments = [Arguments(p.inputs, p.names, (), p.constants) for p in (removed, replaced)]
    assert can_drop(Model(model), arguments[0])
    assert not can_drop(Model(model), arguments[1])
    assert not can_drop(Model(lambda **given: model(**given).logits), arguments[0])


def test_removal_leaves_no_room_for_a_token(tokenizer):
    with pytest.raises(ValueError, match=r"removal=True replaces absent words by nothing; got baseline='\[MASK\]'"):
        text_players(tokenizer, "a quick test", removal=True, baseline="[MASK]")


def test_removal_needs_an_attention_mask(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "model_input_names", ["input_ids"])
    with pytest.raises(ValueError, match=r"returns no attention mask.*baseline="):
        text_players(tokenizer, "a quick test", removal=True)


def test_removal_is_remembered(tokenizer):
    players = text_players(tokenizer, "a quick test", removal=True)
    assert players.description["baseline"] == "removed"
    assert players.labels == (("a", "quick", "test"),)
