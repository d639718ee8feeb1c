"""Files for the command line: two tiny models on disk, data, results, and files that are none of these."""

import numpy as np
import torch
import transformers
from PIL import Image
from typer.testing import CliRunner

from captum_lkn.cli.app import app

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "not", "good", "bad", "film", "[red]"]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def save_text_model(path, seed=0):
    """Save a tiny text classifier as a user would have it on disk."""
    (path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast.from_pretrained(path).save_pretrained(path)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        id2label={0: "NEG", 1: "POS"}, label2id={"NEG": 0, "POS": 1}, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(path)
    return path


def save_vision_model(path):
    """Save an image classifier of 4 x 4 patches."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1}, initializer_range=0.5,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)
    return path


def save_films(file):
    """Save sentences with labels by name."""
    lines = [f"{'not ' * (i % 2)}{('good', 'bad')[i // 2 % 2]} film{' film' * (i % 5)}" for i in range(60)]
    file.write_text("sentence,label\n" + "".join(f"{line},{('POS', 'neg')[i % 2]}\n" for i, line in enumerate(lines)))
    return file


def save_picture(path):
    """Save a picture of 40 x 40 pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def files_for(root):
    """Make every file and folder that ``wrong_calls.py`` names; by their names."""
    paths = {name: root / name for name in ("model", "vision", "folder", "locked", "full", "other")}
    for path in paths.values():
        path.mkdir()
    save_text_model(paths["model"])
    save_text_model(paths["other"], seed=1)
    save_vision_model(paths["vision"])
    paths |= {name: root / name for name in ("missing", "new", "same", "page_folder", "picture_folder")}
    for name in ("folder.safetensors", "folder.csv", "page_folder.html", "picture_folder.png"):
        (root / name).mkdir()
    paths["films"] = save_films(root / "films.csv")
    paths["picture"] = save_picture(root / "a.png")
    (paths["full"] / "notes.txt").write_text("mine")
    paths |= _broken(root, paths)
    for name, call in {
        "probes": ("probe", paths["model"], paths["films"], "--layers", "0", "--limit", 20, "--out"),
        "other_probes": ("probe", paths["other"], paths["films"], "--layers", "0", "--limit", 20, "--out"),
        "result": ("text", paths["model"], "not good", "--out"),
    }.items():
        paths[name] = root / f"{name}.safetensors"
        done = run(*call, paths[name])
        assert done.exit_code == 0, done.output
    paths["other_study"] = root / "other_study"
    assert run("study", paths["model"], paths["films"], "--limit", 2, "--out", paths["other_study"]).exit_code == 0
    whole = paths["result"].read_bytes()
    paths["cut"].write_bytes(whole[: len(whole) // 2])
    paths["locked"].chmod(0o500)
    return {name: str(path) for name, path in paths.items()}


def _broken(root, paths):
    made = {name: root / name for name in ("empty", "cut", "stranger", "half_picture", "no_text", "broken", "latin")}
    made["empty"].write_bytes(b"")
    (root / "empty.csv").write_bytes(b"")
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, made["stranger"])
    made["half_picture"].write_bytes(paths["picture"].read_bytes()[:300])
    (root / "no_text.csv").write_text("phrase,label\nnot good,1\n")
    (root / "broken.jsonl").write_text('{"text": "not good", "label": 1}\n{"text": \n')
    (root / "latin.csv").write_bytes(b"text,label\nna\xefve,1\n")
    return made
