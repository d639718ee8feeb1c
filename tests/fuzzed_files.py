"""Saved results with wrong content and a right checksum; as a script, as many as you like.

    python tests/fuzzed_files.py 100000 [SEED]

A mutation changes, drops, doubles or renames one or two entries of the metadata, or tensors: their dtype, their shape,
their numbers. What comes out is refused by an error that names the file, or is used: printed, tabulated, compared.
"""

from __future__ import annotations

import collections
import copy
import importlib.util
import json
import math
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

import safetensors.torch
import torch
from fuzzed_studies import STUDIES, Opened, copied, save_studies
from fuzzed_studies import use as use_study
from torch import nn

from captum_lkn import (
    AndOrInteraction,
    Interactions,
    InteractionsBatch,
    KnowledgeChange,
    LayerwiseKnowledge,
    LinearProbes,
    SampledBatch,
    SampledInteractions,
    learn_baseline,
    players_from_mask,
)
from captum_lkn._common import files
from captum_lkn.baselines.learning import LearnedBaseline
from captum_lkn.evaluation import (
    FidelityCurve,
    Generalization,
    Sparsity,
    Stability,
    Transfer,
    fidelity,
    generalization,
    sparsity,
    stability,
    transferable,
)

MEASURES = (FidelityCurve, Generalization, Sparsity, Stability, Transfer)

CLASSES = {
    kind.__name__: kind
    for kind in (
        Interactions,
        InteractionsBatch,
        KnowledgeChange,
        LearnedBaseline,
        LinearProbes,
        SampledBatch,
        SampledInteractions,
        *MEASURES,
    )
}
KINDS = (*CLASSES, *STUDIES)
_NUMBERS = (0, -1, 1, 2, 3, -0.5, 0.5, 1e308, 3_000_000, 10**12, 2**63, 2**70)
_TEXTS = ("", "x", "0.1", "nan", "cpu", "cuda", "meta", "float64", "and", "\ud800", "a" * 5000, "\x1b[31m")
_OTHERS = (None, True, False, [], {}, [None], ["a", "b"], [1, 2], [[1]], {"a": 1})
ODD = (*_NUMBERS, *_TEXTS, *_OTHERS)
_DTYPES = (torch.float64, torch.float32, torch.int64, torch.int8, torch.uint8, torch.bool)


def save_all(folder: Path) -> dict[str, Path]:
    """Save one result of each kind; by the name of its class."""
    paths = {name: folder / f"{name}.safetensors" for name in CLASSES}
    for name, result in results().items():
        result.save(paths[name])
    return paths


def place_of(saved: Path, name: str, folder: Path) -> Path:
    """Return where the mutations of a saved file are written, in a folder that is new: those of a study into a copy."""
    return copied(saved, folder / "study") if name in STUDIES else folder / "mutated.safetensors"


def loaded(path: Path, name: str):
    """Load a file of a kind."""
    return Opened(path, name) if name in STUDIES else CLASSES[name].load(path)


def results() -> dict[str, object]:
    """Return one result of each kind, by the name of its class."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(40, 3)
    probes = LinearProbes.fit(net, ["0", "1"], [(x, torch.arange(40) % 3)])
    found = AndOrInteraction(net).attribute(x[:2], target=0)
    change = LayerwiseKnowledge(net, ["0", "1"], probes=probes).analyze(x[:2], target=0).with_noise_ceiling(draws=2)
    sampled = AndOrInteraction(lambda x: x[:, 0] * x[:, 1] + x[:, 2:].sum(1), score="logit").attribute(
        torch.ones(2, 24), n_samples=400
    )
    baseline = learn_baseline(lambda x: x[:, 0], players_from_mask(x[:3]), target=None, score="logit", steps=3)
    other = AndOrInteraction(nn.Sequential(net[0], net[2]).eval()).attribute(x[:2], target=0)
    measures = (
        fidelity(found, resamples=20),
        generalization(found, other, ceiling_draws=1, resamples=20),
        sparsity(found, resamples=20),
        stability(AndOrInteraction(net), x[:2], target=0, draws=2, resamples=20),
        transferable(change, other, resamples=20),
    )
    made = (found, found[0], change, probes, baseline, sampled, sampled[0], *measures)
    return {type(result).__name__: result for result in made}


def mutated(path: Path, count: int, seed: int):
    """Yield so many mutations of a file, each as the bytes of a file with a right checksum."""
    _, tensors, document = files._load(path)
    rng = random.Random(seed)
    while count:
        own, changed = dict(tensors), copy.deepcopy(document)
        for _ in range(rng.choice((1, 1, 1, 2))):
            if not own or rng.random() < 0.55:
                _change_metadata(rng, changed["metadata"])
            else:
                _change_tensors(rng, own)
        own = {name: tensor.contiguous() for name, tensor in own.items()}
        changed["sha256"] = files.checksum(own, changed)
        yield safetensors.torch.save(own, {"captum_lkn": json.dumps(changed)})
        count -= 1


def _change_metadata(rng, metadata):
    places = list(_places(metadata))
    if not places:
        return
    *way, last = rng.choice(places)
    inner = metadata
    for key in way:
        inner = inner[key]
    kind = rng.randrange(5)
    if kind == 0:
        del inner[last]
    elif kind == 1 and isinstance(inner, list):
        inner.append(copy.deepcopy(inner[last]))
    elif kind == 1:
        inner[f"new {rng.randrange(3)}"] = copy.deepcopy(inner[last])
    else:
        inner[last] = copy.deepcopy(rng.choice(ODD))


def _places(value, way=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*way, key)
        yield from _places(inner, (*way, key))


def _change_tensors(rng, tensors):
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    flat = tensor.reshape(-1)
    kind = rng.randrange(9)
    if kind == 0:
        return
    if kind == 1:
        name += "x"
    elif kind == 2:
        tensor = tensor.to(rng.choice(_DTYPES))
    elif kind == 3:
        tensor = rng.choice((flat[:-1], flat[:0], torch.cat([flat, flat[:1]]), tensor.unsqueeze(0))).clone()
    elif kind == 4 and len(flat):
        tensor = flat[0].clone()
    elif kind == 5:
        tensor = flat.flip(0).view(tensor.shape).clone()
    elif len(flat):
        flat = flat.clone()
        floating = (math.nan, math.inf, -1e30, 1e30, -1.0, 0.0, 2.0)
        flat[rng.randrange(len(flat))] = rng.choice(floating if flat.is_floating_point() else (0, 1, 100))
        tensor = flat.view(tensor.shape)
    tensors[name] = tensor


def use(result) -> None:
    """Do with a result what users do; whatever is wrong with it should have been found when it was loaded."""
    if isinstance(result, Opened):
        use_study(result)
        return
    str(result)
    if isinstance(result, LinearProbes):
        for probe in result.values():
            str(probe)
            probe(torch.zeros(1, probe.weight.shape[1]))
        return
    if isinstance(result, LearnedBaseline):
        return
    result._repr_html_()
    tabulate(result)
    if isinstance(result, MEASURES):
        return
    if isinstance(result, KnowledgeChange):
        for state in result.states:
            str(result[state])
            result.salient(state)
        return
    for one in [result] if isinstance(result, Interactions | SampledInteractions) else result:
        one.salient()
        one.shapley_values()
        one.predict(torch.ones(1, one.n_players, dtype=torch.bool))
        if one.layout is not None:
            one.attributions()


def tabulate(result) -> None:
    """Make a data frame, where pandas is installed."""
    if importlib.util.find_spec("pandas") is not None:
        result.to_frame()


def outcome(blob: bytes, name: str, path: Path) -> str:
    """Return ``"refused"`` or ``"used"``, or what went wrong."""
    path.write_bytes(blob)
    try:
        result = loaded(path, name)
    except ValueError as error:
        return "refused" if path.name in str(error) else f"an error that does not name the file: {error}"
    except Exception as error:
        return f"a raw {type(error).__name__}: {error}"
    try:
        use(result)
    except Exception as error:
        return f"loaded, and fails later: {type(error).__name__}: {error}"
    return "used"


def main(count: int, seed: int) -> None:
    """Try so many mutations of each kind, and print how they came out, the slowest file and the growth of memory."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in (save_all(Path(folder)) | save_studies(Path(folder))).items():
            place = place_of(path, name, Path(folder, f"mutated {name}"))
            place.parent.mkdir(parents=True, exist_ok=True)
            start, slowest, counts = _peak(), 0.0, collections.Counter()
            for blob in mutated(path, count, seed):
                before = time.process_time()
                counts[outcome(blob, name, place)] += 1
                slowest = max(slowest, time.process_time() - before)
            grown = f"{slowest:.2f} s at most, {_peak() - start} MB more than before"
            print(f"{name}: {dict(counts.most_common(10))}; {grown}", flush=True)


def _peak() -> int:
    """Return the largest memory of this process so far, in MB; no file can have taken more than it grew by."""
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000  # kB on Linux


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
