"""Result files: tensors and JSON in a ``.safetensors`` file, with a checksum that is verified on loading.

No pickle is read or written, so that a file from a stranger cannot run code. Any safetensors reader opens the
files: they hold the tensors by name, and the header's ``__metadata__`` has one entry, ``captum_lkn``, a JSON
object with

===================  ===================================================================================
``schema``           the kind of the content: the name of the class that loads it
``schema_version``   a whole number, raised when the content changes its meaning
``package_version``  the version of captum-lkn that wrote it
``metadata``         the metadata that the writer gave
``sha256``           the checksum of all the others and of the tensors, see :func:`checksum`
===================  ===================================================================================

It is one entry, because safetensors writes several in an order that varies; equal content gives equal files.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._common.writing import check_writable, replacing
from captum_lkn._version import __version__

__all__ = [
    "JSON",
    "SUFFIX",
    "check_target",
    "checksum",
    "kind_in",
    "load",
    "read",
    "to_json",
    "write",
]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""Types that a file's metadata may hold; floats are finite."""

SUFFIX = ".safetensors"
_KEY = "captum_lkn"

_T = TypeVar("_T")
# What building an object of parts that do not fit can raise: errors of our checks, of Python's and of torch's.
_MISFITS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


def write(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, JSON],
    *,
    version: int = 1,
) -> None:
    """Write tensors and metadata to a file, in one atomic step, see ``captum_lkn._common.writing.replacing``.

    Args:
        path: The file to write, ending in ``.safetensors``; one that exists is replaced.
        kind: The name of the class that loads the file.
        tensors: Dense tensors by name, on any device, contiguous or not; written in their own dtype.
        metadata: Values that JSON can hold. Tuples are written as lists.
        version: The version of this kind's schema.

    Raises:
        TypeError: A tensor is not dense, or the metadata has a value that JSON cannot hold.
        ValueError: The path has another suffix, or the metadata has a number that is not finite.
        FileNotFoundError: The folder does not exist.
        IsADirectoryError: The path is a folder.
        OSError: It cannot be written, such as on a full disk. The error names it, and what was there before is kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/it.safetensors", "Thing", {"x": torch.ones(2)}, {"made by": "hand"})
        ...     read(f"{folder}/it.safetensors", "Thing")
        ({'x': tensor([1., 1.])}, {'made by': 'hand'})
    """
    check_target(Path(path))
    plain = {name: _plain_tensor(tensor, name) for name, tensor in tensors.items()}
    document = {
        "schema": kind,
        "schema_version": version,
        "package_version": __version__,
        "metadata": to_json(metadata, "metadata"),
    }
    document["sha256"] = checksum(plain, document)
    blob = safetensors.torch.save(plain, {_KEY: json.dumps(document, allow_nan=False)})
    with replacing(path) as file:
        file.write_bytes(blob)


def read(path: str | os.PathLike[str], kind: str, *, version: int = 1) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`write` wrote, and verify its checksum.

    Args:
        path: The file.
        kind: The kind that the file must hold.
        version: The newest version of this kind's schema that the caller understands.

    Returns:
        The tensors by name, on the CPU, bit for bit as they were written; and the metadata.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged, not of captum-lkn, of another kind, or of a newer schema.
    """
    name, tensors, document = _load(path)
    _check_document(document, kind, version, name)
    if (found := checksum(tensors, document)) != document["sha256"]:
        raise ValueError(
            f"{name} is damaged: its content has SHA-256 {found}, its header states {document['sha256']}. "
            "Copy it again from its source, or save it anew"
        )
    return tensors, document["metadata"]


def load(
    path: str | os.PathLike[str],
    kind: str,
    make: Callable[[dict[str, Tensor], dict[str, Any]], _T],
    *,
    version: int = 1,
) -> _T:
    """Read a file that :func:`write` wrote, and make an object of its content.

    A right checksum says that a file is as it was written, not by whom. So `make` checks that the parts fit each other,
    and whatever it raises comes out as one error that names the file.

    Args:
        path: As in :func:`read`, like `kind` and `version`.
        kind: As there.
        make: Makes the object of tensors and metadata.
        version: As there.

    Returns:
        The object.

    Raises:
        OSError: The file cannot be read.
        ValueError: As in :func:`read`, or the content cannot be that of such an object.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/it.safetensors", "Thing", {}, {"made by": "hand"})
        ...     load(f"{folder}/it.safetensors", "Thing", lambda tensors, metadata: metadata["made by"])
        'hand'
    """
    content = read(path, kind, version=version)
    try:
        return make(*content)
    except _MISFITS as error:
        said = f"there is no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(
            f"the file {os.fspath(path)!r} does not hold what {kind} is made of: {said}. Copy it again from its "
            "source, or save it anew"
        ) from error


def kind_in(path: str | os.PathLike[str]) -> str:
    """Return the kind of a result file: the name of the class that loads it.

    Args:
        path: The file.

    Returns:
        The kind that :func:`write` was given.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged, or not of captum-lkn.
    """
    _, _, document = _load(path)
    return str(document["schema"])


def checksum(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> str:
    r"""Return the SHA-256 of a file's content, as its header holds it.

    It is computed over these bytes: the header's JSON object without its entry ``sha256``; then for each tensor,
    in ascending order of name, the JSON list of name, dtype (such as ``"float64"``) and shape, followed by
    the elements in C order, little-endian. Each piece of JSON is ASCII, has sorted keys and no white space, and
    ends with ``\n``.

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
    """Return a copy that JSON gives back unchanged: mappings become dicts, tuples lists.

    Args:
        value: None, a bool, an int, a finite float, a string, or a list, tuple or mapping of these.
        where: The name of the value in an error.

    Returns:
        The copy.

    Raises:
        TypeError: A value is of another type, or a key is not a string.
        ValueError: A number is not finite.

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
            raise ValueError(f"{where} must be finite, since JSON has no {value}. Give None or a string")
        return float(value)
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if strangers := [key for key in value if not isinstance(key, str)]:
            raise TypeError(
                f"{where} must have strings as keys, as JSON has; got the key {strangers[0]!r}. Give str(key)"
            )
        return {key: to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{where} must be numbers, strings, lists or dicts, as JSON holds them; got {kind_of(value)}. "
        "Convert it with float(x), str(x) or x.tolist()"
    )


def check_target(path: Path) -> None:
    """Check that a result can be saved to a path; callers check before long work.

    Args:
        path: The file to write.

    Raises:
        ValueError: The suffix is not ``.safetensors``.
        FileNotFoundError: The folder does not exist.
        IsADirectoryError: The path is a folder.
        PermissionError: The folder may not be written to.
        OSError: The name is too long.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"the file of a result must end in {SUFFIX}; got {str(path)!r}")
    check_writable(path)


def _plain_tensor(tensor: Any, name: str) -> Tensor:
    """Return a copy that safetensors can write: on the CPU, contiguous, sharing memory with no other tensor."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor {name!r} must be a torch.Tensor; got {kind_of(tensor)}")
    if tensor.layout != torch.strided:
        raise TypeError(f"tensor {name!r} must be dense; got the layout {tensor.layout}. Give x.to_dense()")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _load(path: str | os.PathLike[str]) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """Return the file's name for messages, its tensors, and the JSON object of captum-lkn in its header."""
    name = f"the file {os.fspath(path)!r}"
    try:
        blob = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name} does not exist") from error
    except OSError as error:
        raise type(error)(f"{name} cannot be read: {(error.strerror or '').lower()}") from error
    try:
        with torch.device("cpu"):  # an empty tensor would be made on the default device
            tensors = safetensors.torch.load(blob)
    except (SafetensorError, *_MISFITS) as error:
        if out_of_memory(error):  # the tensors take as much as the file, which is read: it need not be damaged
            raise
        raise ValueError(
            f"{name} ({len(blob)} bytes) is not a safetensors file, or is damaged ({error}). Save it anew"
        ) from error
    return name, tensors, _document(blob, tensors, name)


def _document(blob: bytes, tensors: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """Return the JSON object of captum-lkn in the header of a safetensors file."""
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    entry = (header.get("__metadata__") or {}).get(_KEY)
    try:
        document = json.loads(entry or "null", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # the latter of a text that nests too deeply
        raise ValueError(f"{name} has a damaged header ({error}). Copy it again, or save it anew") from error
    needed = {"schema": str, "schema_version": int, "package_version": str, "metadata": dict, "sha256": str}
    if not isinstance(document, dict) or not all(isinstance(document.get(key), type_) for key, type_ in needed.items()):
        raise ValueError(
            f"{name} is a safetensors file, but not a result of captum-lkn (its tensors: "
            f"{some_of(sorted(tensors)) or 'none'}). Open it with safetensors.torch.load_file"
        )
    return document


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_document(document: Mapping[str, Any], kind: str, version: int, name: str) -> None:
    """Check that a file is of the wanted kind, and not of a newer schema."""
    if document["schema"] != kind:
        raise ValueError(f"{name} holds {document['schema']}, not {kind}. Load it with {document['schema']}.load")
    if document["schema_version"] > version:
        raise ValueError(
            f"{name} was written by captum-lkn {document['package_version']} with version "
            f"{document['schema_version']} of the schema {kind}; captum-lkn {__version__} reads up to "
            f"{version}. Update captum-lkn"
        )


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
