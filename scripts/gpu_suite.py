"""Check the library on one GPU against the CPU, and time both, within eight minutes: `python scripts/gpu_suite.py`.

It runs from a checkout, with what the library depends on and nothing else, and asks nothing of a network: models have
random weights. `--device cpu` rehearses it on a machine without a GPU: both sides are the CPU then, and sizes small.

| part | what must hold |
|---|---|
| families | tables of an output and of a block are those of the CPU, and stay on the device; the model is left there |
| precision | with TF32 and under autocast tables are float64 and near those without; settings are left as they were |
| memory | forwards that run out of memory are halved, with a warning, and give the numbers of small forwards |
| wrappers | DataParallel and compiled models give the numbers of the model itself |
| decomposition | a batch of tables has the objective and the certificate that it has on the CPU |
| speed | none: seconds on the CPU and on the device |

On a GPU, `--write` writes gpu.json and gpu.md to benchmarks/results, with the card's name. The exit code is 1 where a
check fails. Parts that did not begin within `--minutes` are listed as not run, which is a failure, too.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "scripts")]

from _results import write  # noqa: E402
from gpu_models import FAMILIES, columns, inputs_of, made, network, planted  # noqa: E402

from captum_lkn import AndOrInteraction, LayerAndOrInteraction, decompose  # noqa: E402

NEAR = 1e-3  # of the range of a table: float32 on another device, where sums have another order
ROUGH = 0.1  # likewise, in TF32 or bfloat16


class Row(NamedTuple):
    """Outcome of one check: its part, its name, whether it holds, and figures."""

    part: str
    name: str
    holds: bool | None
    detail: str


class Suite:
    """Checks, run one after the other until the time is over."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device, self.rows = device, list[Row]()
        self._ends = time.perf_counter() + 60 * minutes

    def check(self, part: str, name: str, run: Callable[[], str]) -> None:
        """Run one check, which raises where it does not hold and returns its figures."""
        if time.perf_counter() > self._ends:
            row = Row(part, name, False, "not run: the time was over")
        else:
            try:
                row = Row(part, name, True, run())
            except Exception as error:  # all of them are outcomes
                where = traceback.extract_tb(error.__traceback__)[-1]
                row = Row(
                    part, name, False, f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"
                )
        self.rows.append(row)
        print(f"{'ok' if row.holds else 'FAILS':5}  {part}: {name}: {row.detail}", flush=True)


# ---------------------------------------------------------------- tables


def values(model: Callable[..., Any], **arguments: Any) -> Tensor:
    """Return the tables of all samples ``[B, 2^n]``."""
    found = AndOrInteraction(model, kind="and", noise=0).attribute(**arguments)
    return torch.stack([one.values for one in found])


def compare(found: Tensor, expected: Tensor, near: float) -> str:
    """Return the largest difference as a share of the range of the values; raise where it is above `near`."""
    assert found.dtype == torch.float64, f"tables must be float64; got {found.dtype}"
    share = float((found.cpu() - expected.cpu()).abs().max() / (expected.max() - expected.min()))
    assert share <= near, f"differs by {share:.2g} of the range of the values; at most {near:g} is expected"
    return f"differs by {share:.2g} of the range of the values"


# ---------------------------------------------------------------- parts


def families(suite: Suite) -> None:
    """Compare outputs and blocks of each family with the CPU."""
    for family in FAMILIES:
        suite.check("families", family, lambda family=family: one_family(family, suite.device))


def one_family(family: str, device: torch.device) -> str:
    """Compare a model's output and its first block with the CPU."""
    layer = FAMILIES[family][2]
    tables, blocks = [], []
    for place in (torch.device("cpu"), device):
        model, arguments = made(family, place), inputs_of(family, place)
        tables.append(values(model, **arguments))
        assert {p.device.type for p in model.parameters()} == {place.type}, "the model must be left where it was"
        name = layer or next(n for n in ("vit.layers.0", "vit.encoder.layer.0") if n in dict(model.named_modules()))
        method = LayerAndOrInteraction(model, name, probe=Readout(place).eval(), kind="and", noise=0)
        blocks.append(torch.stack([one.values for one in method.attribute(**arguments)]))
    assert tables[1].device.type == device.type, f"tables must lie on {device}; they lie on {tables[1].device}"
    return f"output {compare(tables[1], tables[0], NEAR)}, block {compare(blocks[1], blocks[0], NEAR)}"


class Readout(nn.Module):
    """Read-out with fixed weights of whatever width it gets."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], device=device))

    def forward(self, features: Tensor) -> Tensor:
        """Return three numbers a row."""
        weights = torch.linspace(-1, 1, features.shape[1], device=features.device, dtype=features.dtype)
        return (features * weights).sum(1, keepdim=True) * self.scale.to(features.dtype)


def precision(suite: Suite) -> None:
    """Compare TF32 and autocast with float32."""
    device = suite.device

    def tf32() -> str:
        arguments = {"inputs": columns(device), "target": 1}
        expected = values(network(device), **arguments)
        with matmul_precision("high"):
            found = values(network(device), **arguments)
            assert torch.get_float32_matmul_precision() == "high", "the setting must be left as it was"
        return compare(found, expected, ROUGH)

    def autocast(dtype: torch.dtype) -> str:
        arguments = inputs_of("Bert", device)
        expected = values(made("Bert", device), **arguments)
        with torch.autocast(device.type, dtype):
            found = values(made("Bert", device), **arguments)
            assert torch.is_autocast_enabled(device.type), "autocast must be left on"
        return compare(found, expected, ROUGH)

    def half() -> str:
        arguments = inputs_of("Bert", device)
        return compare(
            values(made("Bert", device).bfloat16(), **arguments), values(made("Bert", device), **arguments), ROUGH
        )

    suite.check("precision", "TF32", tf32)
    suite.check("precision", "autocast to bfloat16", lambda: autocast(torch.bfloat16))
    if device.type == "cuda":
        suite.check("precision", "autocast to float16", lambda: autocast(torch.float16))
    suite.check("precision", "a bfloat16 model", half)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set the precision of products of float32 matrices for a while."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def memory(suite: Suite) -> None:
    """Run out of memory, as a model would, and on a GPU for real."""
    device = suite.device

    class Hungry(nn.Module):
        def __init__(self, most: int, numbers: int) -> None:
            super().__init__()
            self.net, self.most, self.numbers = network(device), most, numbers

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > self.most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            taken = torch.empty(len(x), self.numbers, device=x.device)
            return self.net(x) + 0 * taken[:, :1].isnan()

    def survive(model: nn.Module) -> str:
        arguments = {"inputs": columns(device), "target": 1}
        expected = values(network(device), **arguments, perturbations_per_eval=8)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = values(model, **arguments)
        told = [str(one.message) for one in caught if "out of memory" in str(one.message)]
        assert told, "a warning must say that memory ran out"
        return f"{compare(found, expected, NEAR)}, after {len(told)} warnings"

    suite.check("memory", "a forward that says so", lambda: survive(Hungry(20, 1)))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        suite.check("memory", "for real", lambda: survive(Hungry(10**9, free // (4 * 50))))  # 50 rows fit at most


def wrappers(suite: Suite) -> None:
    """Compare wrapped models with what they wrap."""
    device = suite.device
    backend = "inductor" if device.type == "cuda" else "eager"
    wrapped: dict[str, Callable[[nn.Module], Any]] = {
        "DataParallel": lambda model: nn.DataParallel(model) if device.type == "cuda" else nn.DataParallel(model, []),
        f"compiled by {backend}": lambda model: torch.compile(model, backend=backend),
    }

    def run(wrap: Callable[[nn.Module], Any], bert: bool) -> str:
        arguments = inputs_of("Bert", device) if bert else {"inputs": columns(device), "target": 1}
        model = made("Bert", device) if bert else network(device)
        expected = values(model, **arguments)
        return compare(values(wrap(model), **arguments), expected, NEAR)

    for name, wrap in wrapped.items():
        for bert in (False, True):
            suite.check("wrappers", f"{name}, {'BERT' if bert else 'columns'}", lambda w=wrap, b=bert: run(w, b))


def decomposition(suite: Suite) -> None:
    """Compare a batch of tables with the CPU."""

    def run(n: int, batch: int) -> str:
        tables = planted(n, batch)
        expected, found = decompose(tables), decompose(tables.to(suite.device))
        assert found.and_effects.device.type == suite.device.type, "effects must stay on the device of the tables"
        assert float(found.gap.max()) <= 1e-5, (
            f"the largest certified gap must be at most 1e-5; got {found.gap.max():.2g}"
        )
        worst = float((found.objective.cpu() / expected.objective - 1).abs().max())
        assert worst <= 2e-5, f"objectives differ by {worst:.2g}; both are certified to 1e-5"
        return f"objectives differ by {worst:.1g}, largest gap {float(found.gap.max()):.1g}"

    for n, batch in ((6, 16), (8, 16), (10, 8)):
        suite.check("decomposition", f"{batch} tables of {n} players", lambda n=n, batch=batch: run(n, batch))


def speed(suite: Suite, small: bool) -> None:
    """Time masked forwards of a BERT, and decompositions, on the CPU and on the device."""
    layers, width, n = (2, 64, 6) if small else (12, 768, 10)
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "initializer_range": 0.02,
    }
    sizes |= {"num_attention_heads": width // 64 if width >= 64 else 1}

    def forwards(place: torch.device) -> float:
        model = made("Bert", place, **sizes)
        ids = torch.arange(5, 5 + 32, device=place)[None]
        mask = (torch.arange(32, device=place) % (n + 1) - 1)[None]
        arguments = {"inputs": {"input_ids": ids}, "baselines": 3, "feature_mask": mask, "target": 1}
        return seconds(lambda: values(model, **arguments), place)

    def decompositions(place: torch.device) -> float:
        tables = planted(n, 16).to(place)
        return seconds(lambda: decompose(tables), place)

    def both(measure: Callable[[torch.device], float]) -> str:
        cpu, there = measure(torch.device("cpu")), measure(suite.device)
        return f"CPU {cpu:.2f} s, {suite.device.type} {there:.2f} s"

    name = f"2^{n} masked forwards of 32 tokens, BERT of {layers} layers of {width}"
    suite.check("speed", name, lambda: both(forwards))
    suite.check("speed", f"decomposition of 16 tables of {n} players", lambda: both(decompositions))


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of the second of two runs."""
    for _ in range(2):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - started


# ---------------------------------------------------------------- the whole

PARTS = {part.__name__: part for part in (families, precision, memory, wrappers, decomposition)}


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--minutes", type=float, default=8, help="after which nothing new begins")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/gpu.json and gpu.md, from a GPU")
    parser.add_argument("--only", choices=[*PARTS, "speed"], action="append", help="a part; may be repeated")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this machine has no GPU that torch can use: --device cpu rehearses the suite")
    warnings.filterwarnings("ignore", message="kappa is small|the decomposition stopped")
    suite, started = Suite(device, given.minutes), time.perf_counter()
    for name, part in PARTS.items():
        if not given.only or name in given.only:
            part(suite)
    if not given.only or "speed" in given.only:
        speed(suite, small=device.type == "cpu")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU, a rehearsal"
    failed = [row for row in suite.rows if not row.holds]
    print(f"{len(suite.rows) - len(failed)} of {len(suite.rows)} hold on {card}, {time.perf_counter() - started:.0f} s")
    if given.write and device.type == "cuda":
        result = {"card": card, "rows": [row._asdict() for row in suite.rows]}
        write("gpu", "The library on a GPU", result, table(card, suite.rows))
    raise SystemExit(bool(failed))


def table(card: str, rows: list[Row]) -> str:
    """Return the outcomes as Markdown."""
    head = (
        f"Measured on {card} by `python scripts/gpu_suite.py --write`.\n\n| part | check | outcome |\n|---|---|---|\n"
    )
    lines = [f"| {row.part} | {row.name} | {'' if row.holds else '**fails**: '}{row.detail} |\n" for row in rows]
    return head + "".join(lines)


if __name__ == "__main__":
    main()
