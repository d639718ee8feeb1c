"""Values that are wrong for some arguments, and what an annotation takes."""

import re

import numpy
import torch
from forwards import normal

# ---------------------------------------------------------------- values

ODD = object()


VALUES = {
    # name: (families, value)
    "None": ({"none"}, None),
    "True": ({"flag"}, True),
    "the text False": ({"text"}, "False"),
    "a number as text": ({"text"}, "0.1"),
    "an empty text": ({"text"}, ""),
    "a surrogate": ({"text"}, "\ud800"),
    "bytes": (set(), b"ab"),
    "0": ({"whole", "number"}, 0),
    "-1": ({"whole", "number"}, -1),
    "2**70": ({"whole", "number"}, 2**70),
    "-2**70": ({"whole", "number"}, -(2**70)),
    "2.5": ({"number"}, 2.5),
    "1e300": ({"number"}, 1e300),
    "nan": (set(), float("nan")),
    "inf": (set(), float("inf")),
    "a complex number": (set(), 1j),
    "an object": ({"any"}, ODD),
    "a class": ({"callable", "any"}, dict),
    "an empty list": ({"sequence"}, []),
    "a ragged list": ({"sequence"}, [[1, 2], [3]]),
    "a list of texts, twice the same": ({"sequence", "texts"}, ["a", "a"]),
    "a list of None": ({"sequence"}, [None]),
    "an empty dict": ({"mapping"}, {}),
    "a dict of texts": ({"mapping"}, {"a": "b"}),
    "a set": ({"set"}, {1}),
    "a tensor": ({"tensor"}, normal(2, 3)),
    "no row": ({"tensor"}, torch.zeros(0, 3)),
    "nan in a tensor": ({"tensor"}, torch.full((2, 3), float("nan"))),
    "complex tensor": ({"tensor"}, torch.ones(2, 3, dtype=torch.complex64)),
    "float8 tensor": ({"tensor"}, torch.ones(2, 3).to(torch.float8_e4m3fn)),
    "meta tensor": (set(), torch.ones(2, 3, device="meta")),
    "sparse tensor": (set(), torch.eye(2, 3).to_sparse()),
    "quantised tensor": (set(), torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)),
    "nested tensor": (set(), torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
    "an array of objects": ({"array"}, numpy.array([None, "a"], dtype=object)),
}

# ---------------------------------------------------------------- what an annotation takes

FAMILIES = {
    "bool": {"flag"},
    "int": {"whole"},
    "Count": {"whole"},
    "Positive": {"whole"},
    "SupportsIndex": {"whole"},
    "float": {"number", "whole"},
    "str": {"text"},
    "None": {"none"},
    "Tensor": {"tensor"},
    "np.ndarray": {"array"},
    "tuple": {"sequence"},
    "list": {"sequence"},
    "Sequence": {"sequence"},
    "Collection": {"sequence", "mapping", "set"},
    "Iterable": {"sequence", "mapping", "text", "tensor", "array", "set"},
    "Mapping": {"mapping"},
    "Callable": {"callable"},
    "Any": {"any"},
    "torch.device": {"text"},
    "os.PathLike": {"text"},
    "Literal": {"text"},
    # aliases
    "ScoreLike": {"text", "callable"},
    "TargetLike": {"none", "whole", "tensor", "sequence", "text"},
    "Inputs": {"tensor", "sequence", "mapping"},
    "InputsOrList": {"tensor", "sequence", "mapping"},
    "Baselines": {"none", "number", "whole", "tensor", "sequence", "mapping"},
    "FeatureMask": {"none", "tensor", "sequence", "mapping"},
    "PlayerNames": {"none", "sequence"},
    "LayerLike": {"text", "whole", "sequence"},
    "Layer": set(),
    "Readout": {"callable"},
    "ModelOrLoader": {"callable"},
    "Kind": {"text"},
    "DecompositionKind": {"text"},
    "Scope": {"text"},
    "Ratio": {"text"},
    "Pool": {"text", "callable"},
    "Units": {"text", "callable"},
    "Rest": {"text"},
    "Reads": {"text"},
    "Solver": {"text"},
    "OutputKind": {"text"},
    "_Kind": {"text"},
    "Keep": {"text"},
    "Table": {"tensor", "array", "sequence", "mapping"},
    "Columns": {"none", "sequence", "mapping"},
    "Messages": {"sequence"},
    "States": set(),
    "Decode": {"callable"},
}


def families(annotation):
    """Return the families of values that an annotation takes."""
    outer = re.sub(r"\[[^\[\]]*\]", "", str(annotation))
    while "[" in outer:
        outer = re.sub(r"\[[^\[\]]*\]", "", outer)
    return set().union(*(FAMILIES.get(name.strip(), set()) for name in outer.split("|")))
