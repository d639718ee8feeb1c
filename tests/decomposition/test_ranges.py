import oracles
import pytest
import torch

from captum_lkn.decomposition import decompose
from captum_lkn.decomposition.ranges import cost_of, effect_intervals

SLACK = 1e-3


def tables():
    generator = torch.Generator().manual_seed(0)
    return {
        "a tie of AND and OR": torch.tensor([0.0, 1.0, -0.5, 2.5], dtype=torch.float64),
        "three players": torch.randn(8, generator=generator, dtype=torch.float64),
        "four players, integers": torch.randint(-4, 5, (16,), generator=generator).double(),
    }


@pytest.mark.parametrize(
    ("name", "kind", "pin_ends"),
    [
        ("a tie of AND and OR", "and-or", True),
        ("three players", "and-or", False),
        ("three players", "and", True),
        ("four players, integers", "and-or", True),
    ],
)
def test_the_ends_are_those_of_two_linear_programs(name, kind, pin_ends):
    v = tables()[name]
    found = decompose(v, kappa=0.2, kind=kind, or_weight=1.1, ridge=0.02, pin_ends=pin_ends)
    effects, options = found.effects, found.options
    chosen = effects.strongest()[:3].tolist()
    intervals = effect_intervals(effects, v, chosen, slack=SLACK, options=options)
    budget = (1 + SLACK) * cost_of(effects, options.order_weight)
    for place, (low, high) in zip(chosen, intervals, strict=True):
        subset = sum(1 << i for i, inside in enumerate(effects.members[place].tolist()) if inside)
        least, most = oracles.effect_range(
            v.tolist(), 0.2, budget, (subset, bool(effects.is_or[place])), options.order_weight, pin_ends, kind
        )
        # Certified: never inside; and never further out than is said to be fine.
        assert least - 0.011 * effects.largest <= low <= least + 1e-6
        assert most - 1e-6 <= high <= most + 0.011 * effects.largest


def test_what_the_table_alone_determines_has_no_range():
    v = torch.tensor([0.0, 1.0, 2.0, 7.0], dtype=torch.float64)  # AND effects alone, exactly: there is one way
    found = decompose(v, noise=0, kind="and")
    options = found.options.replace(kappa=0.0)
    for place, (low, high) in enumerate(effect_intervals(found.effects, v, [0, 1, 2], slack=0.1, options=options)):
        effect = float(found.effects.values[place])
        assert low == pytest.approx(effect, abs=0.05)
        assert high == pytest.approx(effect, abs=0.05)


def test_no_effects_have_no_ranges():
    found = decompose(torch.zeros(4, dtype=torch.float64))
    assert effect_intervals(found.effects, torch.zeros(4).double(), [], slack=0.1, options=found.options) == []
