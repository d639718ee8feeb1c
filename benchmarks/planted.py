"""Quality of the effects: planted games, whose effects are known, and tables of networks under noise.

    python benchmarks/planted.py [--quick] [--out FOLDER]

A planted game is the sum of a few AND and OR effects, with Gaussian noise on its 2^n values. Every method decomposes
the same games; its salient effects (above 5 % of the largest) are compared with those planted. Each game is drawn with
noise twice, and the two answers are compared with each other (stability). Tables of networks have no known effects:
there the noise is added, and stability and the number of salient effects are what is measured.

Games of the seed TUNING were used to choose the defaults of DecompositionOptions; games of the seed HELD_OUT were not.
The script writes planted.json and planted.md to the folder.
"""

from __future__ import annotations

import itertools
import json
import platform
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor

from captum_lkn import decompose
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.refit import fidelity_of, refit_effects

TUNING, HELD_OUT = 1, 2
VALUE_NOISE = (0.0, 0.01, 0.03)  # standard deviation as a share of the range of the values
GAMES = {6: 8, 8: 5, 10: 2, 12: 1}  # by number of players: games of each kind and sign
TABLES = Path(__file__).parent.parent / "tests" / "data" / "sparse_optima.npz"
TABLE_NOISE = (0.003, 0.01)
TABLES_OF_A_SIZE = 6

Method = Callable[[Tensor], list[Effects]]


class Game(NamedTuple):
    """One planted game, drawn with noise twice."""

    n: int
    kinds: str  # "and", "or" or "both"
    signs: str  # "one" or "mixed"
    noise: float
    planted: Effects
    tables: Tensor  # [2, 2^n]


@dataclass(frozen=True)
class Score:
    """Comparison of the salient effects of one table with those planted, or with those of the second draw.

    Attributes:
        recall: The share of the planted effects that are salient with their sign.
        precision: The share of the salient effects that are planted with their sign.
        exact: 1 where the salient sets are those planted.
        l1: The distance to the planted effects, all effects of the answer counted, as a share of the planted L1 norm.
        ratio: The median of found / planted over the planted effects.
        jaccard: The share of common sets among those salient in either draw.
        sign: The share of the common sets whose sign agrees.
        salient: The number of salient effects.
        r_squared: The fidelity of the salient effects alone.
        miss: Their largest miss of a value, as a share of the range.
    """

    recall: float
    precision: float
    exact: float
    l1: float
    ratio: float
    jaccard: float
    sign: float
    salient: float
    r_squared: float
    miss: float


def planted_games(seed: int, counts: dict[int, int]) -> list[Game]:
    """Draw games of all kinds, signs and levels of noise: n / 2 + 1 to n - 2 effects of one to three players."""
    games = []
    for n, kinds, signs in itertools.product(counts, ("and", "or", "both"), ("one", "mixed")):
        rng = np.random.default_rng([seed, n, ("and", "or", "both").index(kinds), len(signs)])
        for _, noise in itertools.product(range(counts[n]), VALUE_NOISE):
            planted = _plant(rng, n, kinds, signs)
            values = planted.reconstruction
            spread = float(values.max() - values.min())
            drawn = values + noise * spread * torch.tensor(rng.normal(size=(2, 1 << n)))
            games.append(Game(n, kinds, signs, noise, planted, drawn))
    return games


def _plant(rng: np.random.Generator, n: int, kinds: str, signs: str) -> Effects:
    """Draw effects of sizes .5 to 2, such that v(N) - v(empty) is at least a tenth of the range."""
    while True:
        chosen: dict[tuple[str, tuple[int, ...]], float] = {}
        for _ in range(int(rng.integers(n // 2 + 1, n - 1))):
            order = int(rng.choice([1, 1, 2, 2, 3]))
            members = tuple(sorted(rng.choice(n, order, replace=False).tolist()))
            kind = "and" if order == 1 or kinds == "and" or (kinds == "both" and rng.random() < 0.5) else "or"
            chosen[kind, members] = rng.uniform(0.5, 2) * (1 if signs == "one" else rng.choice([-1, 1]))
        effects = Effects.of(n, [(*key, effect) for key, effect in chosen.items()], constant=1.3)
        values = effects.reconstruction
        if abs(float(values[-1] - values[0])) >= 0.1 * float(values.max() - values.min()):
            return effects


def methods(candidates: bool) -> dict[str, Method]:
    """The methods compared, by name."""
    before = {"order_weight": 0.15, "or_weight": 1.0, "ridge": 0.25}
    found: dict[str, Method] = {
        "default": sparse(),
        "no price on OR (or_weight 1, ridge .25)": sparse(**before),
        "the paper's program": sparse(order_weight=0.0, or_weight=1.0, ridge=0.0),
        "Harsanyi dividends": sparse(noise=0.0, kind="and"),
        "AND only": sparse(kind="and"),
        "default, noise=0": sparse(noise=0.0),
    }
    if candidates:
        for order_weight, or_weight, ridge in CANDIDATES:
            name = f"order {order_weight:g}, OR {or_weight:g}, ridge {ridge:g}"
            found[name] = sparse(order_weight=order_weight, or_weight=or_weight, ridge=ridge)
    return found


CANDIDATES = [
    *((0.15, or_weight, ridge) for or_weight in (1.02, 1.05, 1.1, 1.2) for ridge in (0.005, 0.02, 0.1)),
    (0.15, 1.1, 0.25),
    (0.15, 1.0, 0.02),
    *((order_weight, 1.1, 0.02) for order_weight in (0.05, 0.1, 0.2, 0.3)),
]


def sparse(**options: Any) -> Method:
    """Return the decomposition with some options."""
    return lambda tables: [one.effects for one in decompose(tables, **options)]  # type: ignore[attr-defined]


def refitted(effects: Effects, values: Tensor) -> Effects:
    """Return the salient effects, refitted."""
    return refit_effects(effects.select(effects.salient()), values)


def score(found: Effects, again: Effects, values: Tensor, planted: Effects | None) -> Score:
    """Score one answer; ``again`` is that to the second draw."""
    salient, other = found.select(found.salient()), again.select(again.salient())
    spread = float(values.max() - values.min())
    fidelity = fidelity_of(salient, values)
    common = salient.at(other)
    both = int((common != 0).sum())
    nan = float("nan")
    recall = precision = exact = l1 = ratio = nan
    if planted is not None:
        right = int((salient.at(planted).sign() == planted.values.sign()).sum())
        here = found.at(planted)
        recall, precision = right / len(planted), right / max(len(salient), 1)
        exact = float(len(salient) == len(planted) == right)
        beside = found.values.abs().sum() - here.abs().sum()
        l1 = float(((here - planted.values).abs().sum() + beside) / planted.values.abs().sum())
        ratio = float((here / planted.values).median())
    return Score(
        recall,
        precision,
        exact,
        l1,
        ratio,
        jaccard=both / max(len(salient) + len(other) - both, 1),
        sign=float((common.sign() == other.values.sign())[common != 0].double().mean()) if both else nan,
        salient=float(len(salient)),
        r_squared=fidelity.r_squared,
        miss=fidelity.largest_miss / spread,
    )


def answers(method: Method, pairs: Sequence[Tensor]) -> list[list[Effects]]:
    """Decompose tables ``[2, 2^n]`` of one size, a pair at a time in the result."""
    flat = method(torch.cat(list(pairs)))
    return [flat[i : i + 2] for i in range(0, len(flat), 2)]


def measure_games(
    games: Sequence[Game], chosen: dict[str, Method], report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Score all methods on games, with and without refit: one row a game, method and refit."""
    rows = []
    by_size = itertools.groupby(games, key=lambda game: game.n)
    for n, group in [(n, list(group)) for n, group in by_size]:
        for name, method in chosen.items():
            report(f"n = {n}: {name}")
            for game, pair in zip(group, answers(method, [game.tables for game in group]), strict=True):
                about = {"n": n, "kinds": game.kinds, "signs": game.signs, "noise": game.noise, "method": name}
                again = [refitted(one, table) for one, table in zip(pair, game.tables, strict=True)]
                for refit, both in ((False, pair), (True, again)):
                    rows.append({**about, "refit": refit, **asdict(score(*both, game.tables[0], game.planted))})
    return rows


def measure_tables(
    tables: dict[int, Tensor], chosen: dict[str, Method], seed: int, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Score all methods on tables of networks: the table as it is, against the table with noise."""
    rows = []
    for (n, values), noise in itertools.product(tables.items(), TABLE_NOISE):
        generator = torch.Generator().manual_seed(seed)
        spread = values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)
        noisy = values + noise * spread * torch.randn(values.shape, generator=generator, dtype=torch.float64)
        pairs = list(torch.stack([values, noisy], dim=1))
        for name, method in chosen.items():
            report(f"tables of networks, n = {n}, noise {noise:g}: {name}")
            for pair, both in zip(pairs, answers(method, pairs), strict=True):
                about = {"n": n, "noise": noise, "method": name}
                again = [refitted(one, table) for one, table in zip(both, pair, strict=True)]
                for refit, found in ((False, both), (True, again)):
                    rows.append({**about, "refit": refit, **asdict(score(*found, pair[0], None))})
    return rows


def network_tables(limit: int) -> dict[int, Tensor]:
    """Return tables of networks by number of players."""
    data = np.load(TABLES)
    return {n: torch.tensor(data[f"n{n}_values"][:limit]) for n in (6, 8, 10)}


def means(rows: Iterable[dict[str, Any]], by: Sequence[str]) -> dict[tuple[Any, ...], dict[str, float]]:
    """Return the means of all scores, grouped; numbers of players count the same, however many games they have."""
    fields = list(Score.__dataclass_fields__)
    groups: dict[tuple[Any, ...], dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[tuple(row[name] for name in by)][row["n"]].append([row[field] for field in fields])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mean of nothing is NaN
        return {
            key: dict(
                zip(fields, np.nanmean([np.nanmean(each, 0) for each in sizes.values()], 0).tolist(), strict=True)
            )
            for key, sizes in groups.items()
        }


def markdown(result: dict[str, Any]) -> str:
    """Return the tables of all measurements."""
    lines = [f"# Planted games and tables of networks\n\n{result['machine']}\n"]
    shown = ("recall", "precision", "exact", "l1", "ratio", "jaccard", "sign", "salient", "r_squared", "miss")
    for title, part in (("held-out games", "held_out"), ("tuning games", "tuning")):
        for noise in VALUE_NOISE:
            rows = [row for row in result[part] if row["noise"] == noise]
            lines += _table(f"{title}, noise {noise:.0%} of the range", means(rows, ("method", "refit")), shown)
        lines += _table(f"{title}, all", means(result[part], ("method", "refit")), shown)
    for kinds, signs in itertools.product(("and", "or", "both"), ("one", "mixed")):
        rows = [r for r in result["held_out"] if r["kinds"] == kinds and r["signs"] == signs]
        lines += _table(f"held-out games, {kinds}, signs {signs}", means(rows, ("method", "refit")), shown[:8])
    networks = ("jaccard", "sign", "salient", "r_squared", "miss")
    for noise in TABLE_NOISE:
        rows = [row for row in result["networks"] if row["noise"] == noise]
        lines += _table(
            f"tables of networks, noise {noise:.1%} of the range", means(rows, ("method", "refit")), networks
        )
    return "\n".join(lines) + "\n"


def _table(title: str, groups: dict[tuple[Any, ...], dict[str, float]], shown: Sequence[str]) -> list[str]:
    lines = [f"\n## {title}\n", f"| method | refit | {' | '.join(shown)} |", "|---|---|" + "---:|" * len(shown)]
    for (name, refit), scores in groups.items():
        cells = [f"{scores[field]:.1f}" if field == "salient" else f"{scores[field]:.3f}" for field in shown]
        lines.append(f"| {name} | {'yes' if refit else ''} | {' | '.join(cells)} |")
    return lines


def machine() -> str:
    """Name the processor and the versions."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if info.exists() and names else platform.processor() or platform.machine()
    return (
        f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    )


def main(
    out: Annotated[Path, typer.Option(help="Folder of planted.json and planted.md.")] = Path(__file__).parent
    / "results",
    quick: Annotated[bool, typer.Option(help="A few games of six and eight players.")] = False,
    candidates: Annotated[bool, typer.Option(help="Also the options among which the defaults were chosen.")] = False,
) -> None:
    """Measure all methods and write the results."""
    warnings.simplefilter("ignore")
    counts = {6: 1, 8: 1} if quick else GAMES
    chosen = methods(candidates)
    report = typer.echo
    result = {
        "machine": machine(),
        "games": counts,
        "tuning": measure_games(planted_games(TUNING, counts), chosen, report),
        "held_out": measure_games(planted_games(HELD_OUT, counts), chosen, report),
        "networks": measure_tables(network_tables(1 if quick else TABLES_OF_A_SIZE), chosen, HELD_OUT, report),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "planted.json").write_text(json.dumps(result), encoding="utf-8")
    (out / "planted.md").write_text(markdown(result), encoding="utf-8")
    report(f"wrote {out / 'planted.json'} and {out / 'planted.md'}")


if __name__ == "__main__":
    typer.run(main)
