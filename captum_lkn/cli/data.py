"""Texts with labels, read from a CSV or JSON Lines file or a named data set, in batches for a model.

Files are read with the standard library only.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from captum_lkn._common.checks import is_whole
from captum_lkn._common.messages import count_of, kind_of, some_of

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

__all__ = ["Label", "LabelledTexts", "TextBatches", "as_classes", "batches", "read_texts"]

Label: TypeAlias = "int | str"
"""A class: its number, or a text that is its name or its number."""

_TEXT = ("text", "sentence", "review")
_LABEL = ("label", "labels", "target")
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_NO_LIMIT = 1 << 30


class LabelledTexts(NamedTuple):
    """Texts and their labels, of equal number.

    Attributes:
        texts: The texts, unchanged.
        labels: As the source has them: int, or str without spaces around. A CSV file has texts only;
            :func:`as_classes` decides whether ``"1"`` is the number or the name of a class.
    """

    texts: list[str]
    labels: list[Label]


def read_texts(
    source: str | os.PathLike[str],
    *,
    text: str | None = None,
    label: str | None = None,
    split: str = "train",
    labelled: bool = True,
) -> LabelledTexts:
    r"""Read texts and their labels.

    Args:
        source: A file: ``.csv`` or ``.tsv`` with a line of column names, or ``.jsonl`` or ``.ndjson`` with one object
            in each line, in UTF-8. Otherwise the name of a data set on the Hugging Face hub, or a folder that
            ``datasets.load_dataset`` reads.
        text: The column of the text; None: the one that is named ``text``, ``sentence`` or ``review``.
        label: The column of the label; None: the one that is named ``label``, ``labels`` or ``target``.
        split: The part of a named data set.
        labelled: False: labels are not read, and there are none.

    Returns:
        The texts and labels, in order.

    Raises:
        OSError: The file or the data set does not exist.
        ValueError: A column is missing or not unique, a line cannot be read, or a text or label is missing; the message
            names the line.
        ImportError: A data set's name is given, and `datasets` is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "films.csv")
        ...     _ = file.write_text("sentence,label\nnot a good scene,negative\na joy,positive\n")
        ...     read_texts(file)
        LabelledTexts(texts=['not a good scene', 'a joy'], labels=['negative', 'positive'])
    """
    path = Path(source)
    if path.suffix.lower() in _SUFFIXES and not path.is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(source)!r}")
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = _read_csv(path)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = _read_json_lines(path)
    elif path.is_file():
        raise ValueError(f"the data must be a .csv, .tsv, .jsonl or .ndjson file; got {os.fspath(source)!r}")
    else:
        rows = _read_data_set(os.fspath(source), split)
    texts: list[str] = []
    labels: list[Label] = []
    columns: list[str] = []
    for where, row in rows:
        if not columns:
            columns.append(_column("text", text, _TEXT, row, where))
            columns += [_column("label", label, _LABEL, row, where)] if labelled else []
        texts.append(_text(row, columns[0], where))
        labels += [_label(row, columns[1], where)] if labelled else []
    if not texts:
        raise ValueError(f"{os.fspath(source)!r} has no rows. Give a text and a label in each line")
    return LabelledTexts(texts, labels)


def as_classes(labels: Sequence[Label], names: Mapping[int, str] | None = None) -> list[int]:
    """Convert labels to numbers of classes.

    Names may be numerals, such as the stars of a review. All labels are then read in one way: as names if each is one,
    as numbers if each is one.

    Args:
        labels: Numbers, also as texts, or names in upper or lower case.
        names: The names of the model's classes, by their numbers.

    Returns:
        A number for each label.

    Raises:
        ValueError: A label is neither a name of the model's classes nor a number; or all are both, for different
            classes.

    Example:
        >>> as_classes(["Positive", "negative", "1"], {0: "negative", 1: "positive"})
        [1, 0, 1]
        >>> as_classes(["1", "2", "3"], {0: "1", 1: "2", 2: "3"})
        [0, 1, 2]
    """
    known = {name.lower(): number for number, name in (names or {}).items()}
    by_name = {label: known.get(str(label).lower()) for label in labels}
    by_number = {label: _number(label) for label in labels}
    are_names = None not in by_name.values()
    are_numbers = all(number in (names or {}) for number in by_number.values())
    clash = [one for one in by_name if None not in (by_name[one], by_number[one]) and by_name[one] != by_number[one]]
    if clash and are_names == are_numbers:
        raise ValueError(
            f"the labels {some_of(list(map(repr, clash)))} may be names or numbers of the model's classes, which has "
            f"{some_of([f'{number} {name}' for number, name in (names or {}).items()])}. Rename the classes in the "
            "model's id2label and label2id, so that no name is a numeral"
        )
    first, second = (by_number, by_name) if are_numbers else (by_name, by_number)
    classes = {label: second[label] if number is None else number for label, number in first.items()}
    if unknown := sorted({str(label) for label, number in classes.items() if number is None}):
        given = some_of(list(map(repr, unknown)))
        if not names:
            raise ValueError(f"the labels {given} are names, and the model has no names for its classes. Use numbers")
        raise ValueError(
            f"the labels {given} are not classes of the model, which has {some_of(list(names.values()))}. Use "
            "these names, or the numbers of the classes"
        )
    return [number for label in labels if (number := classes[label]) is not None]


class TextBatches(Iterable["BatchEncoding"]):
    """Batches of tokenised texts with labels, which can be iterated several times; see :func:`batches`."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        labels: Sequence[int],
        batch_size: int,
        max_length: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.texts = texts
        self.labels = labels
        self.batch_size = batch_size
        self.max_length = max_length

    def __len__(self) -> int:
        return -(-len(self.texts) // self.batch_size)

    def __iter__(self) -> Iterator[BatchEncoding]:
        for start in range(0, len(self.texts), self.batch_size):
            part = slice(start, start + self.batch_size)
            encoding = self.tokenizer(
                list(self.texts[part]),
                padding=True,
                # A tokenizer without a limit has a huge one, and warns when it truncates there.
                truncation=self.max_length < _NO_LIMIT,
                max_length=self.max_length if self.max_length < _NO_LIMIT else None,
                return_tensors="pt",
            )
            encoding["labels"] = torch.tensor(self.labels[part], device="cpu")
            yield encoding


def batches(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[int],
    batch_size: int = 32,
    max_length: int | None = None,
) -> TextBatches:
    """Return tokenised texts in batches, as :meth:`captum_lkn.probes.LinearProbes.fit` takes them.

    Args:
        tokenizer: A tokenizer of `transformers`, with a padding token.
        texts: The texts.
        labels: The class of each, a number; see :func:`as_classes`.
        batch_size: Number of texts in a batch; they are padded to the longest of them.
        max_length: Number of tokens of a text that are read; None: the tokenizer's limit of the model.

    Returns:
        BatchEncodings with ``labels``, which can be iterated several times.

    Raises:
        ValueError: There are no texts, or not as many labels; `batch_size` is below 1; the tokenizer has no padding
            token.
    """
    if len(texts) != len(labels) or not texts:
        raise ValueError(
            f"each text must have a label; got {count_of(len(texts), 'text')} and {count_of(len(labels), 'label')}"
        )
    if not is_whole(batch_size) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number from 1; got {batch_size!r}")
    if "pad_token" not in tokenizer.special_tokens_map:
        raise ValueError(
            f"{type(tokenizer).__name__} has no padding token, which batches need. Set one, such as "
            "tokenizer.pad_token = tokenizer.eos_token with the model's config.pad_token_id"
        )
    limit = tokenizer.model_max_length if max_length is None else max_length
    return TextBatches(tokenizer, texts, labels, batch_size, limit)


_Row: TypeAlias = tuple[str, Mapping[str, Any]]


def _read_csv(path: Path) -> Iterator[_Row]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            # A dictionary of the row would hold the last of two columns with one name.
            names = list(reader.fieldnames or ())
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{path.name!r} has several columns {some_of(list(map(repr, twice)))}. Rename them")
            for row in reader:
                where = f"line {reader.line_num} of {path.name!r}"
                if None in row or None in row.values():
                    raise ValueError(
                        f"{where} must have {len(reader.fieldnames or ())} columns, as the first line. Put texts with "
                        "a comma, a quote or a line end into double quotes"
                    )
                yield where, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"line {reader.line_num + 1} of {path.name!r} cannot be read ({error})") from error


def _read_json_lines(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"line {number} of {path.name!r}"
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_with_unique_keys)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON ({error}). Give one object in each line") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where} must be an object with a text and a label; got {kind_of(row)}")
        yield where, row


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, in which a repeated key would hide the value before it."""
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several keys {some_of(list(map(repr, twice)))}")
    return dict(pairs)


def _read_data_set(name: str, split: str) -> Iterator[_Row]:
    try:
        import datasets  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"there is no file {name!r}. To load a data set of this name from the hub: pip install datasets"
        ) from error
    try:
        found = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub's client raises errors of many kinds
        raise OSError(f"there is no file {name!r}, and no data set of that name can be loaded ({error})") from error
    names = {key: feature.names for key, feature in found.features.items() if hasattr(feature, "names")}
    for number, row in enumerate(found):
        yield (
            f"row {number} of {name!r}",
            {key: names[key][value] if key in names and value >= 0 else value for key, value in row.items()},
        )


def _column(what: str, given: str | None, usual: Sequence[str], row: Mapping[str, Any], where: str) -> str:
    wanted = usual if given is None else (given,)
    names = [name for name in row if name == given] or [name for name in row if name.strip().lower() in wanted]
    if len(names) != 1:
        found = "no column" if not names else "several columns"
        raise ValueError(
            f"{where.partition(' of ')[2]} has {found} {' or '.join(map(repr, names or wanted))} for the {what}; its "
            f"columns are {some_of(list(row))}. Name the column with {what}="
        )
    return names[0]


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must have a text in {column!r}; got {value!r}")
    return value


def _number(label: Label) -> int | None:
    """Return the number that a label is, also as a text; None for a name."""
    if isinstance(label, str):
        return int(label) if label.removeprefix("-").isdecimal() else None
    return int(label)


def _label(row: Mapping[str, Any], column: str, where: str) -> Label:
    value = row.get(column)
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer():
        return int(value)
    raise ValueError(f"{where} must have a class in {column!r}, a whole number or a name; got {value!r}")
