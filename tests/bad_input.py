"""A table of calls with one bad argument each, made from the signatures of everything public.

Each row puts one value into one argument of a call that works otherwise. A value has families, such as "number" or
"text"; an argument takes some, read off its annotation. Where the two have nothing in common the call must be refused.
Otherwise it may also work: 2**70 is a whole number, and a seed may be one.

A refusal is clear if it is a `TypeError` or a `ValueError` of this library that names the argument and shows what it
got. ``python tests/bad_input.py`` prints the counts.
"""

import collections
import contextlib
import inspect
import io
import os
import pathlib
import re
import sys
import traceback
import warnings
from dataclasses import dataclass

from bad_calls import SCRATCH, calls
from bad_values import VALUES, families

import captum_lkn as lkn

# ---------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    """One call with one bad argument."""

    call: str
    argument: str
    value: str
    must: bool
    """Say that it must be refused."""


KNOWN = {
    # What is handed on as it is to a function of the user fails there, in the user's words.
    "additional_forward_args": None,
    "score": {"a class"},
    "game": {"a class"},
    "attribute_to_layer_input": {"True"},  # the read-out of the example takes the layer's output
    "DecompositionOptions.replace": {"None"},  # as if it were not given
    "InteractionsBatch.decompose": {"None"},
    "tau": {"inf"},  # nothing is salient
    "baselines": {"nan"},  # what trees read as a missing value; a network's NaN is refused with its first value
    "baseline": {"nan"},
    "penalty": {"nan"},  # not known
    "gap": {"inf"},  # nothing is certified
    "check_model": {"an array of objects"},  # a target that is wrong is what its report says
    "interop.value_function": {"an array of objects"},  # the target is read with the first value
}


def rows(table):
    """Return every argument of every call with every value."""
    made = []
    for call, (function, _) in table.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            takes = families(parameter.annotation)
            for value, (own, given) in VALUES.items():
                known = [KNOWN[key] for key in (call, parameter.name) if key in KNOWN]
                if given is parameter.default or any(kinds is None or value in kinds for kinds in known):
                    continue
                made.append(Row(call, parameter.name, value, "any" not in takes and not own & takes))
    return made


def outcome(row, table):
    """Return "works", "clear", or "unclear: ..." of a call."""
    function, good = table[row.call]
    value = VALUES[row.value][1]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            function(**(good | {row.argument: value}))
    except (Exception, KeyboardInterrupt) as error:
        return judged(error, row.argument, value)
    return "works"


ROOT = str(pathlib.Path(lkn.__file__).parent)


ALIASES = {
    # argument: what messages of the functions below call it
    "effects": "table", "and_effects": "table", "state": "layer", "states": "layer",
    "reference": "layer|model", "path": "file", "folder": "file", "out": "folder", "model": "forward_func",
    "prompt": "message", "dataloader": "batch|labels", "players": "player_names", "interactions": "layer",
    "folders": "file", "probe": "read-out", "top": "k", "example": "inputs?",
}  # fmt: skip


def judged(error, argument, value):
    message = str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, OSError) and isinstance(value, str) and value in message:
        return "clear"
    if not isinstance(error, TypeError | ValueError | OSError) or isinstance(error, UnicodeError):
        return f"unclear: {type(error).__name__}: {message}"
    if not frame.filename.startswith(ROOT):
        return f"unclear: raw {type(error).__name__}: {message}"
    own = argument.removesuffix("s").replace("_", "[_ ]")
    if not re.search(rf"\b(?:{own}|{ALIASES.get(argument, own)})s?\b", message):
        return f"unclear: not named: {message}"
    return "clear"


def main():
    """Print the counts of all rows."""
    table = calls()
    counts = collections.Counter(outcome(row, table).partition(":")[0] for row in rows(table))
    sys.stdout.write(f"{len(table)} calls, {counts.total()} rows: {dict(counts)}\n")


if __name__ == "__main__":
    os.chdir(SCRATCH)
    with contextlib.redirect_stderr(io.StringIO()):
        main()
