"""The public interface, held against a committed text: a change of it is a decision, and is seen in a review.

After a wanted change run `python tests/test_public_api.py` in the repository's root, and commit what it writes.
"""

import inspect
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # this repository's package, also where another is installed

import captum_lkn

SNAPSHOT = pathlib.Path(__file__).parent / "data" / "public_api.txt"


class Named:
    """A default that is shown by its name, where its representation would hold an address."""

    def __init__(self, value):
        self.name = value.__name__

    def __repr__(self):
        return self.name


def signature(function):
    """Return the parameters of a function without annotations, whose spelling depends on Python's version."""
    found = inspect.signature(function)
    bare = [
        p.replace(
            annotation=inspect.Parameter.empty, default=Named(p.default) if inspect.isroutine(p.default) else p.default
        )
        for p in found.parameters.values()
    ]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def members(cls):
    """Return the public members that this package gives to a class, inherited ones included."""
    own = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("captum_lkn"):
            own |= vars(base)
    lines = []
    for name, value in sorted(own.items()):
        if name.startswith("_"):
            continue
        if isinstance(value, classmethod | staticmethod):
            lines.append(f"  {type(value).__name__} {name}{signature(value.__func__)}")
        else:
            lines.append(f"  {name}{signature(value) if inspect.isfunction(value) else ''}")
    return lines


def describe():
    """Return names, signatures and members of all that `captum_lkn` exports, a line each."""
    lines = []
    for name in sorted(captum_lkn.__all__):
        value = getattr(captum_lkn, name)
        if inspect.isclass(value):
            lines += [f"class {name}{signature(value)}", *members(value)]
        elif callable(value):
            lines.append(f"{name}{signature(value)}")
        else:
            lines.append(f"{name}: {type(value).__name__}")
    return "\n".join(lines) + "\n"


def test_the_public_interface_is_the_one_that_was_agreed():
    assert describe() == SNAPSHOT.read_text(encoding="utf-8"), (
        f"if this is wanted: python {pathlib.Path(__file__).name}"
    )


if __name__ == "__main__":
    SNAPSHOT.write_text(describe(), encoding="utf-8")
