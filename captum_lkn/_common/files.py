"""One result, one file: tensors and JSON in a ``.safetensors`` file, checked when it is loaded.

No pickle is read or written, so that a file from a stranger cannot run code. Any safetensors reader opens the
files: the tensors lie there by name, and the header's ``__metadata__`` has one entry, ``captum_lkn``, a JSON
object with

===================  ===================================================================================
``schema``           what the file holds: the name of the class that loads it
``schema_version``   a whole number, raised when the content changes its meaning
``package_version``  the version of captum-lkn that wrote it
``metadata``         what the writer gave
``sha256``           the checksum of all the others and of the tensors, see :func:`checksum`
===================  ===================================================================================

One entry, because safetensors writes several in an order that varies: equal content makes equal files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._version import __version__

__all__ = ["JSON", "SUFFIX", "checksum", "read", "to_json", "write"]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""What a file's metadata may be made of; floats are finite."""

SUFFIX = ".safetensors"
_KEY = "captum_lkn"


def write(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, JSON],
    *,
    version: int = 1,
) -> None:
    """Write tensors and metadata to a file, all or nothing.

    The content goes to a temporary file beside the target, which then takes the target's name: whoever reads
    meanwhile finds the old file or the new one, and an interrupted write leaves the old one.

    Args:
        path: The file to write, ending in ``.safetensors``; one that exists is replaced.
        kind: What the file holds: the name of the class that loads it.
        tensors: Dense tensors by name, on any device, contiguous or not; written in their own dtype.
        metadata: What JSON can hold. Tuples are written as lists.
        version: The version of this kind's schema.

    Raises:
        TypeError: If something is no dense tensor, or nothing that JSON can hold.
        ValueError: If the path has another suffix, or the metadata a number that is not finite.
        FileNotFoundError: If the folder does not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/it.safetensors", "Thing", {"x": torch.ones(2)}, {"made by": "hand"})
        ...     read(f"{folder}/it.safetensors", "Thing")
        ({'x': tensor([1., 1.])}, {'made by': 'hand'})
    """
    target = check_target(Path(path))
    plain = {name: _plain_tensor(tensor, name) for name, tensor in tensors.items()}
    document = {
        "schema": kind,
        "schema_version": version,
        "package_version": __version__,
        "metadata": to_json(metadata, "metadata"),
    }
    document["sha256"] = checksum(plain, document)
    _replace(target, safetensors.torch.save(plain, {_KEY: json.dumps(document, allow_nan=False)}))


def read(path: str | os.PathLike[str], kind: str, *, version: int = 1) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`write` wrote, and check that nothing has changed since.

    Args:
        path: The file.
        kind: What it must hold.
        version: The newest version of this kind's schema that the caller understands.

    Returns:
        The tensors by name, on the CPU, bit for bit what was written; and the metadata.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is damaged, not of captum-lkn, of another kind, or of a newer schema.
    """
    blob = Path(path).read_bytes()
    name = f"the file {os.fspath(path)!r}"
    try:
        tensors = safetensors.torch.load(blob)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name} ({len(blob)} bytes) is no safetensors file, or a damaged one ({error}): save it anew"
        ) from error
    document = _document(blob, tensors, name)
    _check_document(document, kind, version, name)
    if (found := checksum(tensors, document)) != document["sha256"]:
        raise ValueError(
            f"{name} is damaged: its content has SHA-256 {found}, its header says {document['sha256']}: "
            "copy it again from where it came from, or save it anew"
        )
    return tensors, document["metadata"]


def checksum(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> str:
    r"""The SHA-256 that a file's header holds.

    It is taken over these bytes: the header's JSON object without its entry ``sha256``; then for each tensor,
    in ascending order of name, the JSON list of name, dtype (such as ``"float64"``) and shape, followed by
    the elements as they lie in the file (C order, little-endian). Each piece of JSON is ASCII, has sorted
    keys and no white space, and ends with ``\n``.

    Args:
        tensors: The tensors by name, on the CPU.
        document: The header's JSON object, with or without its entry ``sha256``.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(_canonical({key: document[key] for key in document if key != "sha256"}))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(_canonical([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_json(value: Any, where: str) -> Any:
    """A copy that comes back from JSON exactly as it is: mappings become dicts, tuples lists.

    Args:
        value: None, a bool, an int, a finite float, a string, or a list, tuple or mapping of these.
        where: What to call the value in an error.

    Returns:
        The copy.

    Raises:
        TypeError: If something is of another type, or a key is no string.
        ValueError: If a number is not finite.

    Example:
        >>> to_json({"shape": (2, 3), "score": "log_odds"}, "provenance")
        {'shape': [2, 3], 'score': 'log_odds'}
    """
    if value is None or isinstance(value, bool):
        return value
    # Plain ones out of subclasses, such as members of an Enum and NumPy's float64.
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON cannot hold: give None, or say it in a string")
        return float(value)
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if strangers := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"{where} has the key {strangers[0]!r}: JSON's keys are strings, so give str(key)")
        return {key: to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{where} is {kind_of(value)}, which JSON cannot hold: give numbers, strings, lists or dicts, "
        "such as float(x), str(x) or x.tolist() makes"
    )


def check_target(path: Path) -> Path:
    """The path, if a result can be saved there: asked before long work, not after.

    Args:
        path: Where to save.

    Returns:
        The same path.

    Raises:
        ValueError: If the suffix is another than ``.safetensors``.
        FileNotFoundError: If the folder does not exist.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"a result is saved as a {SUFFIX} file; got {str(path)!r}: give a name ending so")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save {path.name!r}: there is no folder {str(path.parent)!r}; make it first")
    return path


def _plain_tensor(tensor: Any, name: str) -> Tensor:
    """A tensor as safetensors takes it: on the CPU, contiguous, sharing memory with no other."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor {name!r} is {kind_of(tensor)}: give a torch.Tensor")
    if tensor.layout != torch.strided:
        raise TypeError(f"tensor {name!r} has layout {tensor.layout}: give a dense tensor, x.to_dense()")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _replace(target: Path, blob: bytes) -> None:
    """Give a file its new content in one step."""
    # A random name, not tempfile's, whose files are for their owner's eyes only: the umask decides here.
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())  # else a crash could leave the new name on an empty file
        os.replace(temporary, target)
    except BaseException:  # also Ctrl-C
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _document(blob: bytes, tensors: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """The JSON object in the header of a file that safetensors could read."""
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    entry = header.get("__metadata__", {}).get(_KEY)
    try:
        document = json.loads(entry or "null")
    except ValueError as error:
        raise ValueError(f"{name} has a damaged header ({error}): copy it again, or save it anew") from error
    needed = {"schema": str, "schema_version": int, "package_version": str, "metadata": dict, "sha256": str}
    if not isinstance(document, dict) or not all(isinstance(document.get(key), type_) for key, type_ in needed.items()):
        raise ValueError(
            f"{name} is a safetensors file, but not a result of captum-lkn (its tensors: "
            f"{some_of(sorted(tensors)) or 'none'}): open it with safetensors.torch.load_file"
        )
    return document


def _check_document(document: Mapping[str, Any], kind: str, version: int, name: str) -> None:
    """Check that the file is of the kind that was asked for, and not from the future."""
    if document["schema"] != kind:
        raise ValueError(f"{name} holds {document['schema']}, not {kind}: load it with {document['schema']}.load")
    if document["schema_version"] > version:
        raise ValueError(
            f"{name} was written by captum-lkn {document['package_version']} with version "
            f"{document['schema_version']} of the schema {kind}; captum-lkn {__version__} reads up to "
            f"{version}: update captum-lkn"
        )


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
