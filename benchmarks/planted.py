"""Quality of the effects: planted games, whose effects are known, and tables of networks under noise.

    python benchmarks/planted.py [--quick] [--large] [--candidates] [--out FOLDER]

A planted game is the sum of a few AND and OR effects, with Gaussian noise on its 2^n values. Every method decomposes
the same games; its salient effects (above 5 % of the largest) are compared with those planted. Each game is drawn with
noise twice, and the two answers are compared with each other (stability). Tables of networks have no known effects:
there the noise is added, and stability and the number of salient effects are what is measured.

Games of the seed TUNING were used to choose the defaults of DecompositionOptions; games of the seed HELD_OUT were not.
The script writes planted.json and planted.md to the folder.
"""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from _results import RESULTS, machine, write
from torch import Tensor

from captum_lkn import decompose
from captum_lkn.decomposition import Decomposition
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import NOISE
from captum_lkn.decomposition.refit import fidelity_of, refit_salient

TUNING, HELD_OUT = 1, 2
LARGE = {6: 8, 8: 4, 10: 1}
VALUE_NOISE = (0.0, 0.01, 0.03)  # standard deviation as a share of the range of the values
GAMES = {6: 2, 8: 1}  # by number of players: games of each kind, sign and level of noise
TABLES = Path(__file__).parent.parent / "tests" / "data" / "sparse_optima.npz"
TABLE_NOISE = (0.003, 0.01)
TABLES_OF_A_SIZE = 4

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
    """Comparison of the effects of one table that count with those planted, and with those of the second draw.

    Attributes:
        recall: The share of the planted effects that are found with their sign.
        precision: The share of the effects found that are planted with their sign.
        exact: 1 where the sets found are those planted.
        l1: The L1 distance to the planted effects as a share of their L1 norm.
        ratio: The median of found / planted over the planted effects.
        jaccard: The share of common sets among those found in either draw.
        sign: The share of the common sets whose sign agrees.
        salient: The number of effects that count.
        r_squared: R^2 of these effects alone over all values.
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


CANDIDATES = [
    *((0.15, or_weight, ridge) for or_weight in (1.0, 1.05, 1.1, 1.2) for ridge in (0.02, 0.1, 0.25)),
    *((order_weight, 1.1, 0.1) for order_weight in (0.05, 0.3)),
]
"""Order weight, price on OR and ridge of the candidates for the defaults."""

BEFORE = {"order_weight": 0.15, "or_weight": 1.0, "ridge": 0.25}
PROGRAM = {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0}


def sparse(**options: Any) -> Method:
    """Return the decomposition with some options."""
    return lambda tables: effects_of(decompose(tables, **options))


def effects_of(found: Decomposition) -> list[Effects]:
    """Return the effects of each table of a batch."""
    return [found[i].effects for i in range(len(found.stopped))]


def reweighted(tables: Tensor) -> list[Effects]:
    """Decompose twice; the second time the weights are larger the smaller an effect was (Candes et al. 2008)."""
    first = decompose(tables)
    size = torch.stack([first.and_effects, first.or_effects], dim=-2).abs()
    size[..., 0, 0] = 0
    cost = 1 / (size / size.amax((-1, -2), keepdim=True) + 0.1)
    return effects_of(decompose(tables, cost=cost / cost.amin((-1, -2), keepdim=True)))


METHODS: dict[str, Method] = {
    "default": sparse(),
    "or_weight 1, ridge .25": sparse(**BEFORE),
    "the paper's program": sparse(**PROGRAM),
    "default, noise=0": sparse(noise=0.0),
    "reweighted": reweighted,
    "Harsanyi dividends": sparse(noise=0.0, kind="and"),
}


def variants(effects: Effects, values: Tensor) -> dict[str, Effects]:
    """Return the effects that count: the salient ones, those above kappa too, and the refit."""
    kappa = NOISE * abs(float(values[-1] - values[0]))
    salient = effects.select(effects.salient())
    return {
        "salient": salient,
        "above kappa": salient.select(salient.above(kappa)),
        "refitted": refit_salient(effects, values),
    }


def score(found: Effects, again: Effects, values: Tensor, planted: Effects | None) -> Score:
    """Score the effects that count; ``again`` are those of the second draw."""
    fidelity = fidelity_of(found, values)
    common = found.at(again)
    both = int((common != 0).sum())
    nan = float("nan")
    recall = precision = exact = l1 = ratio = nan
    if planted is not None:
        here = found.at(planted)
        right = int((here.sign() == planted.values.sign()).sum())
        recall, precision = right / len(planted), right / max(len(found), 1)
        exact = float(len(found) == len(planted) == right)
        beside = found.values.abs().sum() - here.abs().sum()
        l1 = float(((here - planted.values).abs().sum() + beside) / planted.values.abs().sum())
        ratio = float((here / planted.values).median())
    return Score(
        recall,
        precision,
        exact,
        l1,
        ratio,
        jaccard=both / max(len(found) + len(again) - both, 1),
        sign=float((common.sign() == again.values.sign())[common != 0].double().mean()) if both else nan,
        salient=float(len(found)),
        r_squared=fidelity.r_squared,
        miss=fidelity.largest_miss / float(values.max() - values.min()),
    )


def answers(method: Method, pairs: Sequence[Tensor]) -> list[list[Effects]]:
    """Decompose tables ``[2, 2^n]`` of one size, a pair at a time in the result."""
    flat = method(torch.cat(list(pairs)))
    return [flat[i : i + 2] for i in range(0, len(flat), 2)]


def scores_of(pair: Sequence[Effects], tables: Tensor, planted: Effects | None) -> Iterator[dict[str, Any]]:
    """Yield the scores of each variant of the answers to two draws."""
    both = [variants(one, table) for one, table in zip(pair, tables, strict=True)]
    for name in both[0]:
        yield {"counted": name, **asdict(score(both[0][name], both[1][name], tables[0], planted))}


def measure_games(games: Sequence[Game], chosen: dict[str, Method]) -> list[dict[str, Any]]:
    """Score methods on games: one row a game, method and variant."""
    rows = []
    for n, group in [(n, list(group)) for n, group in itertools.groupby(games, key=lambda game: game.n)]:
        for name, method in chosen.items():
            typer.echo(f"n = {n}, {len(group)} games: {name}")
            for game, pair in zip(group, answers(method, [game.tables for game in group]), strict=True):
                about = {"n": n, "kinds": game.kinds, "signs": game.signs, "noise": game.noise, "method": name}
                rows += [{**about, **found} for found in scores_of(pair, game.tables, game.planted)]
    return rows


def measure_tables(tables: dict[int, Tensor], chosen: dict[str, Method], seed: int) -> list[dict[str, Any]]:
    """Score methods on tables of networks: the table as it is, against the table with noise."""
    rows = []
    for (n, values), noise in itertools.product(tables.items(), TABLE_NOISE):
        generator = torch.Generator().manual_seed(seed)
        spread = values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)
        noisy = values + noise * spread * torch.randn(values.shape, generator=generator, dtype=torch.float64)
        pairs = list(torch.stack([values, noisy], dim=1))
        for name, method in chosen.items():
            typer.echo(f"tables of networks, n = {n}, noise {noise:g}: {name}")
            for pair, both in zip(pairs, answers(method, pairs), strict=True):
                about = {"n": n, "noise": noise, "method": name}
                rows += [{**about, **found} for found in scores_of(both, pair, None)]
    return rows


def network_tables(limit: int, large: bool) -> dict[int, Tensor]:
    """Return tables of networks by number of players, evenly spaced among those of that size."""
    data = np.load(TABLES)
    every = {n: data[f"n{n}_values"] for n in ((6, 8, 10) if large else (6, 8))}
    return {n: torch.tensor(values[:: max(1, len(values) // limit)][:limit]) for n, values in every.items()}


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


def cells(rows: Sequence[dict[str, Any]], by: Sequence[str]) -> dict[str, list[Any]]:
    """Return the means of each group as columns and rows for the JSON file; NaN becomes None."""
    columns = [*by, *Score.__dataclass_fields__]
    found = means(rows, by).items()
    return {
        "columns": columns,
        "rows": [[*key, *(round(x, 4) if x == x else None for x in scores.values())] for key, scores in found],
    }


GAME_COLUMNS = ("recall", "precision", "exact", "l1", "ratio", "jaccard", "sign", "salient", "r_squared", "miss")
NETWORK_COLUMNS = ("jaccard", "sign", "salient", "r_squared", "miss")


def markdown(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Return the tables of all measurements."""
    lines = [f"{machine()}\n\nColumns: see `Score` in benchmarks/planted.py."]
    by = ("method", "counted")
    for title, part in (("held-out games", "held_out"), ("tuning games", "tuning")):
        lines += table(f"{title}, all", means(rows[part], by), GAME_COLUMNS)
        for noise in VALUE_NOISE:
            some = [row for row in rows[part] if row["noise"] == noise]
            lines += table(f"{title}, noise {noise:.0%} of the range", means(some, by), GAME_COLUMNS)
    for kinds, signs in itertools.product(("and", "or", "both"), ("one", "mixed")):
        some = [row for row in rows["held_out"] if (row["kinds"], row["signs"]) == (kinds, signs)]
        lines += table(f"held-out games, {kinds}, signs: {signs}", means(some, by), GAME_COLUMNS)
    for noise in TABLE_NOISE:
        some = [row for row in rows["networks"] if row["noise"] == noise]
        lines += table(f"tables of networks, noise {noise:.1%} of the range", means(some, by), NETWORK_COLUMNS)
    if rows["candidates"]:
        lines += table("candidates, tuning games up to n = 8", means(rows["candidates"], by), GAME_COLUMNS)
    return "\n".join(lines) + "\n"


def table(title: str, groups: dict[tuple[Any, ...], dict[str, float]], shown: Sequence[str]) -> list[str]:
    """Return a Markdown table, one line a method and variant."""
    lines = [f"\n## {title}\n", f"| method | counted | {' | '.join(shown)} |", "|---|---|" + "---:|" * len(shown)]
    for (name, counted), scores in groups.items():
        numbers = [f"{scores[field]:.1f}" if field == "salient" else f"{scores[field]:.3f}" for field in shown]
        lines.append(f"| {name} | {counted} | {' | '.join(numbers)} |")
    return lines


def main(
    out: Annotated[Path, typer.Option(help="Folder of planted.json and planted.md.")] = RESULTS,
    quick: Annotated[bool, typer.Option(help="A game of six players each.")] = False,
    large: Annotated[bool, typer.Option(help="More games, also of ten players; takes an hour.")] = False,
    candidates: Annotated[bool, typer.Option(help="Also the options among which the defaults were chosen.")] = False,
) -> None:
    """Measure all methods and write the results."""
    warnings.simplefilter("ignore")
    counts = {6: 1} if quick else LARGE if large else GAMES
    small = {n: count for n, count in counts.items() if n <= 8}
    named = {
        f"order {a:g}, OR {b:g}, ridge {c:g}": sparse(order_weight=a, or_weight=b, ridge=c) for a, b, c in CANDIDATES
    }
    rows = {
        "tuning": measure_games(planted_games(TUNING, counts), METHODS),
        "held_out": measure_games(planted_games(HELD_OUT, counts), METHODS),
        "networks": measure_tables(network_tables(1 if quick else TABLES_OF_A_SIZE, large), METHODS, HELD_OUT),
        "candidates": measure_games(planted_games(TUNING, small), named) if candidates else [],
    }
    by = dict.fromkeys(("tuning", "held_out", "candidates"), ("n", "kinds", "signs", "noise", "method", "counted"))
    found = {part: cells(each, by.get(part, ("n", "noise", "method", "counted"))) for part, each in rows.items()}
    write("planted", "Planted games and tables of networks", {"games": counts, **found}, markdown(rows), out)


if __name__ == "__main__":
    typer.run(main)
