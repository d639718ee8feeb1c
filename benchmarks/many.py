"""Sampled masks of many players against shapiq's and Captum's approximations, budget by budget.

    pip install lightgbm galois sparse-transform
    python benchmarks/many.py

Sentences of 21 words and the demo's BERT, which were used for no choice of the library; and planted games of 40 and 200
players with 15 AND and OR effects of up to four players, values with an error of 1 % of their standard deviation.
Each method gets as many masks. ProxySPEX and the lasso get the very same; the others need masks of their own
distribution. The lasso (scikit-learn's, its penalty by three-fold cross-validation) shows how much a sparse sum can
explain: it has all players and pairs, AND and OR, then the sets with one player more than the strongest, up to four.
Seconds are those of one process without the values. R^2 is that at 1,000 masks of each kind that no method has seen,
of what a method's numbers add up to: effects, Moebius coefficients, k-SII of order 2, Shapley values. The script
writes many.json and many.md to benchmarks/results; with --own it keeps the rows of the other libraries that are there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import shapiq
import torch
from _results import RESULTS, machine, write
from captum.attr import KernelShap
from sklearn.linear_model import LassoCV
from torch import Tensor

from captum_lkn import DecompositionOptions, text_players
from captum_lkn.decomposition import Effects
from captum_lkn.demo import load_sentiment_bert
from captum_lkn.models.model import Model
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.players.prepare import prepare
from captum_lkn.sampling.fit import fit_sampled
from captum_lkn.sampling.masks import MaskPlan, draw_masks
from captum_lkn.sampling.terms import Masks, Term, activity
from captum_lkn.values.evaluator import Evaluator

SENTENCES = (
    "The film begins slowly and looks cheap, but its second half is so clever that hardly anybody left bored.",
    "I expected nothing from a sequel that nobody had asked for, and it is not as good as that.",
)
BUDGETS = {"sentence": (1000, 3000), "planted, 40 players": (5000,), "planted, 200 players": (20000,)}
SPEX = ("sentence 1", "sentence 2")  # a minute each; it is left out elsewhere
GAMES = (10, 11, 12)
EFFECTS, HIGHEST, ERROR = 15, 4, 0.01
STRONG = 40  # sets of each order that the lasso's candidates grow from
TESTS = 1000
NEAR = 0.1  # a planted effect is found if its set has a number within this share of it
Game = Callable[[Tensor], Tensor]
Terms = dict[tuple[int, ...], float]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", action="store_true", help="keep the rows of the other libraries")
    others = not parser.parse_args().own
    torch.set_num_threads(1)
    earlier = {} if others else json.loads((RESULTS / "many.json").read_text(encoding="utf-8"))
    kept = [row for row in earlier.get("rows", ()) if not row["method"].startswith("sampled")]
    kept_from = earlier.get("kept_from", earlier.get("machine", ""))
    rows: list[dict[str, Any]] = []
    for n in (40, 200):
        for seed in GAMES:
            effects = planted(n, seed)
            for budget in BUDGETS[f"planted, {n} players"]:
                game = with_error(effects, seed)
                rows += measure(f"planted, {n} players", n, game, budget, effects, others)
    model, tokenizer = load_sentiment_bert()
    for number, sentence in enumerate(SENTENCES):
        players, arguments = prepare(text_players(tokenizer, sentence), None, None, None, None)
        options = {"target": "predicted", "score": resolve_score("log_odds")}
        with torch.no_grad(), Evaluator(Model(model), players, arguments, **options) as evaluator:
            game = remembered(lambda masks, e=evaluator: e.values(torch.zeros(len(masks), dtype=torch.int64), masks))
            for budget in BUDGETS["sentence"]:
                rows += measure(f"sentence {number + 1}", players.sizes[0], game, budget, None, others)
    order = list(dict.fromkeys((row["game"], row["masks"]) for row in rows))
    rows = sorted([*rows, *kept], key=lambda row: order.index((row["game"], row["masks"])))
    result = {"rows": rows} | ({"kept_from": kept_from} if kept else {})
    write("many", "Sampled masks of many players", result, text(rows, kept_from))


def measure(name: str, n: int, game: Game, budget: int, truth: Effects | None, others: bool) -> list[dict[str, Any]]:
    """Return a row for each method."""
    generator, taken = torch.Generator().manual_seed(0), set()
    tests = [draw_masks(n, TESTS, generator, taken, all_sizes=kind) for kind in (False, True)]
    ends = torch.tensor([[False] * n, [True] * n])
    sizes = draw_masks(n, budget // 2 - 1, generator, taken, all_sizes=True)
    rest = draw_masks(n, budget - 2 - len(sizes), generator, taken)
    plan = MaskPlan(torch.cat([ends, sizes, rest]), *tests)
    values = tuple(game(masks) for masks in plan)
    methods: dict[str, Callable[[Timed], Terms | Effects]] = {
        "sampled": lambda game: fit_sampled(plan, values, DecompositionOptions()).effects,
        "sampled, at most 54": lambda game: fit_sampled(plan, values, DecompositionOptions(), max_effects=54).effects,
    }
    if truth is not None:
        del methods["sampled, at most 54"]
    if others and n < 200:
        methods |= {
            "ProxySPEX": lambda game: proxyspex(plan.fit, game),
            "KernelSHAP-IQ, order 2": lambda game: kernel_shap_iq(n, budget, game),
        }
    if others and truth is None:
        methods["hierarchical lasso"] = lambda game: lasso(plan.fit, game)
    if others and name in SPEX:
        methods["SPEX"] = lambda game: spex(n, budget, game)
    if others:
        methods["KernelShap (Captum)"] = lambda game: kernel_shap(n, budget, game)
    rows = []
    for method, run in methods.items():
        timed = Timed(game)
        start = time.process_time()
        try:
            found = run(timed)
        except (ValueError, RuntimeError, MemoryError) as error:
            print(f"{name}, {budget} masks, {method}: {error}")
            continue
        row = {"game": name, "masks": budget, "method": method}
        row["seconds"] = time.process_time() - start - timed.seconds
        row["numbers"] = len(found)
        for kind, masks, own in zip(("uniform", "all sizes"), plan[1:], values[1:], strict=True):
            missed = own - predict(found, masks)
            row[kind] = 1 - float(missed.square().sum() / (own - own.mean()).square().sum())
        if truth is not None:
            row["found"] = recovered(found, truth)
        print(row, flush=True)
        rows.append(row)
    return rows


class Timed:
    """A game as shapiq calls it, with the seconds that its values took."""

    def __init__(self, game: Game) -> None:
        self.game, self.seconds = game, 0.0

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        """Return the values of bool ``[m, n]``."""
        start = time.process_time()
        values = self.game(torch.as_tensor(np.atleast_2d(masks)).bool()).numpy()
        self.seconds += time.process_time() - start
        return values


def proxyspex(masks: Tensor, game: Timed) -> Terms:
    """Return the Moebius coefficients of ProxySPEX at given masks."""
    method = as_moebius(shapiq.ProxySPEX(n=masks.shape[1], index="FBII", random_state=0))
    method._uniform_sampler = SimpleNamespace(coalitions_matrix=masks.numpy().astype(int), sample=lambda budget: None)
    return moebius(method.approximate(len(masks), game))


def lasso(masks: Tensor, game: Timed) -> Effects:
    """Return the effects of a lasso on candidates that grow from the strongest."""
    n, values = masks.shape[1], game(masks.numpy())
    terms: list[Term] = [((i,), False) for i in range(n)]
    terms += [(pair, is_or) for pair in combinations(range(n), 2) for is_or in (False, True)]
    for order in range(2, HIGHEST + 1):
        columns = activity(Masks.of(masks, torch.float64), terms).T.numpy()
        fit = LassoCV(cv=3, alphas=30, max_iter=3000, tol=1e-3).fit(columns, values)
        if order < HIGHEST:
            strength = {term: abs(number) for term, number in zip(terms, fit.coef_.tolist(), strict=True) if number}
            best = sorted((term for term in strength if len(term[0]) == order), key=lambda term: -strength[term])[
                :STRONG
            ]
            grown = [(tuple(sorted({*players, i})), is_or) for players, is_or in best for i in range(n)]
            terms = list(dict.fromkeys([*strength, *(term for term in grown if len(term[0]) == order + 1)]))
    found = {term: number for term, number in zip(terms, fit.coef_.tolist(), strict=True) if number}
    listed = [("or" if is_or else "and", players, number) for (players, is_or), number in found.items()]
    return Effects.of(n, listed, constant=float(fit.intercept_))


def spex(n: int, budget: int, game: Timed) -> Terms:
    """Return the Moebius coefficients of SPEX."""
    return moebius(as_moebius(shapiq.SPEX(n=n, index="FBII", random_state=0)).approximate(budget, game))


def as_moebius(method: Any) -> Any:
    """Let a method return its Moebius coefficients, before it makes an index of them."""

    def kept(moebius_transform: Terms) -> np.ndarray:
        method._interaction_lookup = {players: place for place, players in enumerate(moebius_transform)}
        return np.array(list(moebius_transform.values()))

    method._process_moebius = kept
    return method


def kernel_shap_iq(n: int, budget: int, game: Timed) -> Terms:
    """Return k-SII of order 2, as a game of order 2."""
    found = shapiq.KernelSHAPIQ(n, max_order=2, index="k-SII", random_state=0).approximate(budget, game)
    return moebius(found)


def kernel_shap(n: int, budget: int, game: Timed) -> Terms:
    """Return Captum's Shapley values and v(empty), as a game of order 1."""
    method = KernelShap(lambda x: torch.from_numpy(game(x.bool().numpy())).float())
    torch.manual_seed(0)
    values = method.attribute(torch.ones(1, n), n_samples=budget, perturbations_per_eval=256)[0]
    empty = float(game(np.zeros((1, n)))[0])
    return {(): empty} | {(i,): value for i, value in enumerate(values.tolist())}


def moebius(found: shapiq.InteractionValues) -> Terms:
    """Return shapiq's numbers by the players of their sets."""
    places = found.interaction_lookup.items()
    terms = {tuple(map(int, players)): float(found.values[place]) for players, place in places}
    return terms | {(): float(found.baseline_value)}


def predict(found: Terms | Effects, masks: Tensor) -> Tensor:
    """Return what the numbers add up to."""
    if isinstance(found, Effects):
        return found.predict(masks)
    values = torch.full((len(masks),), found.get((), 0.0), dtype=torch.float64)
    for players, number in found.items():
        if players and number:
            values += number * masks[:, list(players)].all(1)
    return values


def recovered(found: Terms | Effects, truth: Effects) -> int:
    """Return how many planted effects were found: of Moebius coefficients by those of the planted sets."""
    if isinstance(found, Effects):
        own, wanted = found.at(truth), truth.values
    else:
        expected = moebius_of(truth)
        sets = [tuple(row.nonzero().flatten().tolist()) for row in truth.members]
        own = torch.tensor([found.get(players, 0.0) for players in sets])
        wanted = torch.tensor([expected[players] for players in sets])
    return int(((own - wanted).abs() <= NEAR * wanted.abs()).sum())


def moebius_of(effects: Effects) -> Terms:
    """Return the Moebius coefficients of AND and OR effects: an OR of S has (-1)^(|T| + 1) at all T in S."""
    found: Terms = {}
    for row, is_or, value in zip(effects.members, effects.is_or.tolist(), effects.values.tolist(), strict=True):
        players = row.nonzero().flatten().tolist()
        for subset in range(1, 1 << len(players)) if is_or else [(1 << len(players)) - 1]:
            part = tuple(player for place, player in enumerate(players) if subset >> place & 1)
            sign = -1 if is_or and len(part) % 2 == 0 else 1
            found[part] = found.get(part, 0.0) + sign * value
    return found


def planted(n: int, seed: int) -> Effects:
    """Return AND and OR effects of one to four players, between .5 and 2 in size."""
    generator = np.random.default_rng(seed)
    sets: dict[tuple[int, ...], tuple[str, tuple[int, ...], float]] = {}
    while len(sets) < EFFECTS:
        order = int(generator.integers(1, HIGHEST + 1))
        kind = "or" if order > 1 and generator.integers(2) else "and"
        players = tuple(sorted(generator.choice(n, order, replace=False).tolist()))
        effect = float(generator.choice([-1, 1]) * generator.uniform(0.5, 2))
        sets.setdefault(players, (kind, players, effect))
    return Effects.of(n, sets.values())


def with_error(effects: Effects, seed: int) -> Game:
    """Return the values of planted effects with an error of 1 %, the same for the same mask."""
    masks = torch.rand(10_000, effects.n, generator=torch.Generator().manual_seed(seed)) < 0.5
    deviation = ERROR * effects.predict(masks).std()
    generator = torch.Generator().manual_seed(seed)
    return remembered(
        lambda masks: (
            effects.predict(masks) + deviation * torch.randn(len(masks), generator=generator, dtype=torch.float64)
        )
    )


def remembered(game: Game) -> Game:
    """Return a game that computes the value of each mask once."""
    known: dict[bytes, float] = {}

    def values(masks: Tensor) -> Tensor:
        keys = [row.tobytes() for row in np.packbits(masks.numpy(), axis=1)]
        new = {key: place for place, key in enumerate(keys) if key not in known}
        if new:
            found = game(masks[list(new.values())]).flatten().double().cpu().tolist()
            known.update(zip(new, found, strict=True))
        return torch.tensor([known[key] for key in keys], dtype=torch.float64)

    return values


def text(rows: list[dict[str, Any]], kept_from: str) -> str:
    """Return the rows as a table, those of planted games as means over the games."""
    kept = f"All rows but `sampled` are of earlier runs at the same masks, on the machine: {kept_from}\n"
    lines = [
        f"{machine()}\n",
        *([kept] if kept_from else []),
        "R^2 at 1,000 unseen masks of each kind; see benchmarks/many.py. Planted games: means over 3 games.\n",
        "| game | masks | method | numbers | R^2 uniform | R^2 all sizes | found of 15 | seconds |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["game"], row["masks"], row["method"]), []).append(row)
    for (game, masks, method), several in groups.items():
        mean = {key: float(np.mean([row[key] for row in several])) for key in several[0] if key not in _WORDS}
        found = ", ".join(str(row["found"]) for row in several) if "found" in mean else ""
        lines.append(
            f"| {game} | {masks:,} | {method} | {mean['numbers']:.0f} | {mean['uniform']:.3f} | "
            f"{mean['all sizes']:.3f} | {found} | {mean['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


_WORDS = ("game", "masks", "method")


if __name__ == "__main__":
    main()
