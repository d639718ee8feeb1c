"""The modules of a model by their names: without wrappers, blocks by number, close matches for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from captum_lkn._common.messages import some_of
from captum_lkn.models.wrappers import is_wrapper, plain_name, unwrapped

__all__ = ["block_names", "find_module", "modules"]


def modules(root: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield all modules below one, with their dotted names without the wrappers' parts; the outer ones first."""
    for name, child in root.named_children():
        path = prefix if is_wrapper(root) else f"{prefix}.{name}".lstrip(".")
        if not is_wrapper(root):
            yield path, child
        yield from modules(child, path)


def find_module(root: nn.Module, given: str | int) -> tuple[str, nn.Module]:
    """Return the module that a name or the number of a block stands for, and its name in :func:`modules`.

    Args:
        root: The module to look in.
        given: A dotted name, with or without the parts of wrappers, any of several that a shared module has; or a
            number, from 0.

    Returns:
        The name and the module.

    Raises:
        ValueError: There is no such module (the message has close matches), or not one list of blocks.
    """
    names = dict(modules(root))
    found = _block(given, root, names) if isinstance(given, int) else _named(given, root, names)
    return next(name for name, module in names.items() if module is found), found


def block_names(root: nn.Module) -> list[str]:
    """Return the names of a model's blocks, in order.

    Args:
        root: The model, with one list of several blocks.

    Raises:
        ValueError: There is no such list, or more than one.
    """
    name, blocks = _block_list(root, dict(modules(root)), "the blocks are wanted")
    return [f"{name}.{number}".lstrip(".") for number in range(len(blocks))]


def _named(name: str, root: nn.Module, names: Mapping[str, nn.Module]) -> nn.Module:
    if name in names:
        return names[name]
    # torch's own name: with the wrappers' parts, or the second name of a module that has several.
    module = dict(root.named_modules(remove_duplicate=False)).get(name)
    if module is None or not any(module is known for known in names.values()):
        module = names.get(plain_name(name))  # from a model with other wrappers
    if module is None:
        raise ValueError(f"{_title(root)} has no layer {name!r}: {_hint(name, names)}")
    return module


def _block(number: int, root: nn.Module, names: Mapping[str, nn.Module]) -> nn.Module:
    name, blocks = _block_list(root, names, f"layer {number} is the number of a block")
    if not 0 <= number < len(blocks):
        first, last = (f"{name}.{i}".lstrip(".") for i in (0, len(blocks) - 1))
        raise ValueError(f"layer must be the number of a block of {_title(root)}, {first} to {last}; got {number}")
    return blocks[number]  # type: ignore[no-any-return]


def _block_list(root: nn.Module, names: Mapping[str, nn.Module], reason: str) -> tuple[str, Any]:
    """Return the one list of several blocks, with its name."""
    inner = unwrapped(root)
    if isinstance(inner, nn.Sequential) and len(inner) > 1:
        lists: dict[str, Any] = {"": inner}
    else:  # beside a ModuleList, a Sequential is a stem or a head
        lists = _outermost(names, nn.ModuleList) or _outermost(names, nn.Sequential)
    if len(lists) != 1:
        what = f"{len(lists)} lists of blocks ({some_of(list(lists))})" if lists else "no list of several blocks"
        raise ValueError(f"{reason}, but {_title(root)} has {what}. Give names of layers")
    return next(iter(lists.items()))


def _outermost(names: Mapping[str, nn.Module], kind: type[nn.ModuleList] | type[nn.Sequential]) -> dict[str, Any]:
    """Return the lists of several modules that lie in no other such list."""
    found: dict[str, Any] = {}
    for name, module in names.items():
        if isinstance(module, kind) and len(module) > 1 and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def _title(root: nn.Module) -> str:
    return type(unwrapped(root)).__name__


def _hint(name: str, names: Mapping[str, nn.Module]) -> str:
    ending = [full for full in names if full.endswith(f".{name}")]
    near = list(dict.fromkeys([*ending, *difflib.get_close_matches(name, names, n=3, cutoff=0.5)]))[:3]
    return f"did you mean {', '.join(map(repr, near))}?" if near else f"it has {some_of(list(names)) or 'no parts'}"
