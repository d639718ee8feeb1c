"""Texts and labels from files, and batches of them."""

import builtins
import json

import pytest
import torch
from tiny_tokenizers import word_level
from transformers import BertConfig, BertForSequenceClassification

from captum_lkn.cli.data import as_classes, batches, read_texts
from captum_lkn.probes import LinearProbes


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("text", ["text", "sentence", "review", "Text"])
@pytest.mark.parametrize("label", ["label", "labels", "target", "Label"])
def test_the_usual_columns_are_found(tmp_path, text, label):
    path = written(tmp_path, "films.csv", f"id,{label},{text}\n7,1,good\n8,0,bad\n")
    assert read_texts(path) == (["good", "bad"], ["1", "0"])


def test_quotes_commas_line_ends_and_a_byte_order_mark(tmp_path):
    content = '\ufefftext,label\r\n"good, ""really""\ngood",positive\r\nnaïve, negative \r\n'
    found = read_texts(str(written(tmp_path, "films.csv", content)))
    assert found.texts == ['good, "really"\ngood', "naïve"]
    assert found.labels == ["positive", "negative"]


def test_tabs_and_json_lines(tmp_path):
    assert read_texts(written(tmp_path, "a.tsv", "sentence\tlabel\nso, so\t2\n")) == (["so, so"], ["2"])
    lines = [{"review": "good", "target": 1, "id": None}, {"review": "bad\nfilm", "target": "neg"}]
    content = "\n".join([json.dumps(lines[0]), "", json.dumps(lines[1])]) + "\n"
    for name in ("a.jsonl", "b.ndjson"):
        assert read_texts(written(tmp_path, name, content)) == (["good", "bad\nfilm"], [1, "neg"])


def test_columns_by_name(tmp_path):
    path = written(tmp_path, "films.csv", "text,phrase,label,stars\nno,good,no,5\n")
    assert read_texts(path, text="phrase", label="stars") == (["good"], ["5"])


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", "", {}, r"'.*a\.csv' has no rows"),
        ("a.csv", "text,label\n", {}, r"'.*a\.csv' has no rows"),
        (
            "a.csv",
            "t,label\nx,1\n",
            {},
            r"'a\.csv' has no column 'text' or 'sentence' or 'review' .* columns are t, label\. .*text=",
        ),
        (
            "a.csv",
            "text,y\nx,1\n",
            {},
            r"'a\.csv' has no column 'label' or 'labels' or 'target' .* columns are text, y\. .*label=",
        ),
        (
            "a.csv",
            "text,label\nx,1\n",
            {"label": "stars"},
            r"no column 'stars' for the label; its columns are text, label",
        ),
        ("a.csv", "text,text,label\nx,y,1\n", {}, r"'a\.csv' has several columns 'text'\. Rename them"),
        ("a.csv", "text,sentence,label\nx,y,1\n", {}, r"several columns 'text' or 'sentence' for the text; .* text="),
        ("a.csv", "text,label,Labels\nx,y,1\n", {}, r"several columns 'label' or 'Labels' for the label; .* label="),
        ("a.jsonl", '{"text": "x", "text": "y", "label": 1}\n', {}, r"not JSON \(several keys 'text'\)"),
        ("a.csv", "text,label\nx,1\ny\n", {}, r"line 3 of 'a\.csv' must have 2 columns, as the first line\. Put"),
        ("a.csv", "text,label\nx,1\ny,z,1\n", {}, r"line 3 of 'a\.csv' must have 2 columns"),
        ("a.csv", 'text,label\n"x"y,1\n', {}, r"line 2 of 'a\.csv' cannot be read"),
        ("a.csv", b"text,label\n\xff\xfe,1\n", {}, r"line \d of 'a\.csv' cannot be read \('utf-8' codec"),
        ("a.csv", "text,label\nx,1\n ,1\n", {}, r"line 3 of 'a\.csv' must have a text in 'text'; got ' '"),
        (
            "a.csv",
            "text,label\nx,\n",
            {},
            r"line 2 of 'a\.csv' must have a class in 'label', .*; got ''",
        ),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": \n', {}, r"line 2 of 'a\.jsonl' is not JSON"),
        ("a.jsonl", "[1]\n", {}, r"line 1 of 'a\.jsonl' must be an object with a text and a label; got a list"),
        (
            "a.jsonl",
            '{"text": "x", "label": 1}\n{"text": "y"}\n',
            {},
            r"line 2 .* must have a class .*; got None",
        ),
        ("a.jsonl", '{"text": 5, "label": 1}\n', {}, r"line 1 of 'a\.jsonl' must have a text in 'text'; got 5"),
        (
            "a.jsonl",
            '{"text": "x", "label": 1.5}\n',
            {},
            r"line 1 .* a class in 'label', .*; got 1\.5",
        ),
        (
            "a.jsonl",
            '{"text": "x", "label": true}\n',
            {},
            r"line 1 .* a class in 'label', .*; got True",
        ),
        ("a.txt", "x\n", {}, r"must be a \.csv, .* file; got '.*a\.txt'"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, options, message):
    with pytest.raises(ValueError, match=message):
        read_texts(written(tmp_path, name, content), **options)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_texts(tmp_path / "none.csv")


def test_a_data_set_without_its_library(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"there is no file 'imdb'\. .*: pip install datasets"):
        read_texts("imdb")


def test_a_data_set_by_name(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install datasets")
    rows = {"text": ["good", "bad"], "label": [1, 0]}
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    asked = []

    def load(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_texts("imdb", split="test") == (["good", "bad"], ["pos", "neg"])
    assert asked == [("imdb", "test")]

    def fail(name, split):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        OSError, match=r"there is no file 'imdb', and no data set of that name can be loaded \(no route"
    ):
        read_texts("imdb")


def test_classes_by_name():
    assert as_classes(["POS", 0, "neg"], {0: "neg", 1: "pos"}) == [1, 0, 0]
    assert as_classes([2, 0]) == as_classes(["2", "0"]) == [2, 0]
    with pytest.raises(ValueError, match=r"'bad', 'good' are not .*, which has neg, pos\. Use these names, or"):
        as_classes(["good", "bad", "neg"], {0: "neg", 1: "pos"})
    with pytest.raises(ValueError, match="'--1' are not"):
        as_classes(["--1"], {0: "neg", 1: "pos"})
    with pytest.raises(ValueError, match=r"labels 'good' are names, and the model has no names for its classes\. Use"):
        as_classes(["good"])


STARS = {0: "1", 1: "2", 2: "3"}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["1", "2", "3", "3"], [0, 1, 2, 2]),  # 3 is not a number of a class
        (["0", "1", "2", "0"], [0, 1, 2, 0]),  # 0 is not a name
        ([3, 1, 2], [2, 0, 1]),
        ([2, 0], [2, 0]),
    ],
)
def test_names_that_are_numerals(labels, classes):
    assert as_classes(labels, STARS) == classes


@pytest.mark.parametrize("labels", [["1", "2"], [2, 1], ["0", "3"], ["1", "7"]])
def test_numerals_that_could_be_names_or_numbers_are_refused(labels):
    with pytest.raises(ValueError, match=r"may be names or numbers of the model's classes, .* 0 1, 1 2, 2 3\. Rename"):
        as_classes(labels, STARS)


def test_batches_are_padded_labelled_and_made_anew():
    texts, labels = ["good", "not a good film", "bad film"], [1, 0, 0]
    loader = batches(word_level(), texts, labels, batch_size=2)
    assert len(loader) == 2
    for _ in range(2):
        first, second = loader
        assert first["input_ids"].shape == (2, 6)
        assert first["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
        assert first["labels"].tolist() == [1, 0]
        assert second["input_ids"].shape == (1, 4)
        assert second["labels"].tolist() == [0]


def test_long_texts_are_cut_where_the_model_ends():
    tokenizer = word_level()
    (batch,) = batches(tokenizer, ["good " * 50], [0])
    assert batch["input_ids"].shape == (1, 52)
    (batch,) = batches(tokenizer, ["good " * 50], [0], max_length=7)
    assert batch["input_ids"].shape == (1, 7)
    tokenizer.model_max_length = 9
    (batch,) = batches(tokenizer, ["good " * 50], [0])
    assert batch["input_ids"].shape == (1, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "b"], [1]), r"each text must have a label; got 2 texts and 1 label"),
        (([], []), r"each text must have a label; got 0 texts and 0 labels"),
        ((["a"], [1], 0), r"batch_size must be a whole number from 1; got 0"),
    ],
)
def test_batches_that_cannot_be_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(word_level(), *arguments)


def test_a_tokenizer_without_padding():
    with pytest.raises(ValueError, match=r"has no padding token, which batches need\. Set one, such as tokenizer\.pad"):
        batches(word_level(pad_token=None), ["a"], [0])


def test_from_a_file_to_probes(tmp_path):
    lines = [f"{'good film' if i % 2 else 'not a good film'},{'positive' if i % 2 else 'negative'}" for i in range(20)]
    texts, labels = read_texts(written(tmp_path, "films.csv", "\n".join(["sentence,label", *lines])))
    tokenizer = word_level()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    )
    config.id2label = {0: "negative", 1: "positive"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
    loader = batches(tokenizer, texts, as_classes(labels, config.id2label), batch_size=8)
    probes = LinearProbes.fit(model, [0, 1], loader)
    assert [probe.accuracy for probe in probes.values()] == [(1, 1), (1, 1)]
