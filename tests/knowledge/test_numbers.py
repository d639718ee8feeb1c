"""Limits, numbers and printed lines of comparisons, each next to where it changes."""

import math
import re
import warnings
from types import SimpleNamespace

import pytest
import torch

from captum_lkn.decomposition import DecompositionOptions, Effects
from captum_lkn.interactions.about import About
from captum_lkn.knowledge import checks, noise_ceiling, rendering
from captum_lkn.knowledge.comparison import Comparison, Strengths, normaliser, ratio_of, thresholds
from captum_lkn.knowledge.packing import _split
from captum_lkn.knowledge.provenance import shared_about, shared_provenance
from captum_lkn.knowledge.rendering import Report, prefix_of, shown_label
from captum_lkn.knowledge.rows import rows_of
from captum_lkn.knowledge.salience import selection_frequencies
from captum_lkn.knowledge.sensitivity import Sensitivity

NAN = math.nan


def table(*values):
    return torch.tensor(values, dtype=torch.float64)


def comparison(completeness, ratio="sum"):
    """A comparison whose completeness is as given, ``[2, m]``."""
    share = table(*completeness)[None]
    whole = torch.where(share.isnan(), 0.0, torch.ones_like(share))
    part = share.nan_to_num()
    counts = whole.long()
    return Comparison(Strengths(whole, whole, part, whole - part, whole - part, 2 * counts, 3 * counts), ratio)


# ---------------------------------------------------------------- noise


def explained(values, **options):
    """Interactions of a table, as they were extracted with these options."""
    kappa = options.get("kappa") or 0.5
    effects = Effects.of(2, [("and", (0, 1), float(values[-1]) - float(values[0]))])
    own = {"kappa": kappa, "gap": 0.0, "options": DecompositionOptions(**options)}
    return SimpleNamespace(values=values, v_empty=float(values[0]), v_full=float(values[-1]), effects=effects, **own)


@pytest.mark.parametrize(
    ("options", "value_noise", "values", "expected"),
    [
        ({"noise": 0.08}, None, (0.0, 1.0, 1.0, 3.0), 0.02 * 3),
        ({"noise": 0.0}, None, (0.0, 1.0, 1.0, 3.0), 0.01 * 3),
        ({"kappa": 0.4}, None, (0.0, 1.0, 1.0, 3.0), 0.1),
        ({"kappa": 0.0, "noise": 0.08}, None, (0.0, 1.0, 1.0, 3.0), 0.02 * 3),
        ({"kappa": 0.4}, 0.5, (0.0, 1.0, 1.0, 3.0), 1.5),
        ({"noise": 0.08}, 0.5, (2.0, 10.0, 1.0, 2.0), 0.5 * 0.25 * 8),  # the ends are equal
        ({"noise": 0.08}, 0.5, (2.0, 10.0, 1.0, 0.5), 0.5 * 2.0),  # a quarter of 8 is more than 1.5
        ({"noise": 0.08}, 0.5, (2.0, 10.0, 1.0, 5.0), 0.5 * 3.0),
    ],
)
def test_the_noise_is_a_share_of_kappa_or_of_the_change(options, value_noise, values, expected):
    found = noise_ceiling._deviation(explained(table(*values), **options), value_noise)
    assert found == pytest.approx(expected)


def test_noise_and_jitter_have_the_size_that_was_asked_for():
    one = explained(torch.arange(1024).double(), noise=0.04)
    tables, factors = noise_ceiling._noisy(one, 3, torch.Generator().manual_seed(0), 0.1, 0.2)
    noise = tables - one.values
    assert tables.shape == (3, 1024)
    assert float(noise.std()) == pytest.approx(102.3, rel=0.05)
    assert abs(float(noise.mean())) < 6
    assert factors.shape == (3, 2, 1024)
    assert 0.8 <= float(factors.min()) < 0.801
    assert 1.199 < float(factors.max()) <= 1.2
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"draws": 0}, "draws must be at least 1; got 0"),
        ({"seed": -1}, r"seed must be from 0 to 2\^63 - 1; got -1"),
        ({"seed": 1 << 63}, "seed must be from 0"),
        ({"value_noise": -1e-9}, "value_noise must be at least 0"),
        ({"value_noise": math.inf}, "value_noise must be at least 0 and finite"),
        ({"jitter": 1.0}, "below 1"),
        ({"jitter": -0.1}, "jitter must be at least 0"),
    ],
)
def test_settings_of_the_noise_are_refused_just_beyond_their_limits(given, said):
    good = {"draws": 1, "seed": (1 << 63) - 1, "value_noise": 0.0, "jitter": 0.999}
    noise_ceiling.check_noise_ceiling(**good)
    noise_ceiling.check_noise_ceiling(**{**good, "seed": 0, "value_noise": None, "jitter": 0.0})
    with pytest.raises(ValueError, match=said):
        noise_ceiling.check_noise_ceiling(**{**good, **given})


def test_an_effect_is_found_again_where_it_is_salient_with_its_sign():
    effects = [Effects.of(2, [("and", (0,), 1.0), ("and", (1,), -0.5), ("and", (0, 1), 0.2)])]
    draws = [
        [("and", (0,), 2.0), ("and", (1,), -1.0), ("and", (0, 1), 0.2)],
        [("and", (0,), 2.0), ("and", (1,), 1.0), ("and", (0, 1), 0.21)],  # another sign; salient
        [("and", (0,), -2.0), ("and", (1,), -0.2)],  # another sign; just not salient
        [("and", (1,), -2.0)],
    ]
    drawn = [[Effects.of(2, draw) for draw in draws]]
    (shares,) = selection_frequencies(effects, drawn, tau=0.1, scope="dataset")
    assert shares.tolist() == [0.5, 0.5, 0.25]


# ---------------------------------------------------------------- units and ratios


def test_a_unit_within_rounding_is_none():
    values = table(8.0, -8.0, 0.0, 8.0 + 4 * 8 * 1e-6)
    assert normaliser([values], 0.99e-6) == pytest.approx(32e-6)
    assert normaliser([values], 1.01e-6) == 0.0
    both = normaliser([table(0.0, 1.0), table(0.0, -3.0)])
    assert both == 2.0


def test_ratios_of_sums_and_means_of_ratios_leave_out_what_has_nothing():
    part, whole = table([1.0, 0.0], [3.0, 0.0], [0.0, 0.0]), table([2.0, 0.0], [12.0, 0.0], [0.0, 0.0])
    assert ratio_of(part, whole, "sum")[0].item() == pytest.approx(4 / 14)
    assert ratio_of(part, whole, "mean")[0].item() == pytest.approx((0.5 + 0.25) / 2)
    assert ratio_of(part, whole, "sum")[1].isnan()
    assert ratio_of(part, whole, "mean")[1].isnan()


def test_thresholds_are_of_the_largest_of_all_or_of_each():
    effects = [Effects.of(1, [("and", (0,), size)]) for size in (-4.0, 1.0)]
    assert thresholds(effects, 0.25, "dataset") == [1.0, 1.0]
    assert thresholds(effects, 0.25, "sample") == [1.0, 0.25]


# ---------------------------------------------------------------- warnings of small units


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((10.0, 1.0, 2.0), {}),  # ten times is not more than ten
        ((10.1, 1.0, 2.0), {"a": (10.1, 1.5)}),
        ((12.0, 3.9, 4.1), {}),  # three times the median
        ((12.1, 3.9, 4.1), {"a": (12.1, 4.0)}),
        ((50.0,), {}),
    ],
)
def test_states_that_dwarf_the_others(sizes, expected):
    strengths = {name: {"and": size / 2, "or": size / 2} for name, size in zip("abc", sizes, strict=False)}
    found = checks._amplified(strengths)
    assert {name: tuple(map(pytest.approx, both)) for name, both in found.items()} == expected


def test_what_strengths_alone_say_of_the_redundancy():
    found = checks._bounds({"and": 8.0, "or": 2.0}, {"and": 2.0, "or": 2.0})
    assert found == ["the redundancy of AND effects is at least 75%"]
    assert checks._bounds({"and": 1.0, "or": 2.0}, {"and": 2.0, "or": 3.0}) == []


# ---------------------------------------------------------------- rows and tables


def test_rows_hold_means_over_the_samples_and_the_bounds_under_noise():
    compared = {"early": comparison([[0.5, NAN], [0.25, 0.75]])}
    own = {"early": comparison([[0.9, NAN], [0.6, 0.4]]), "output": comparison([[0.8, NAN], [0.7, 0.2]])}
    rows = list(rows_of(compared, own, "output", 4))
    assert [(row.kind, row.order) for row in rows] == [("and", 1), ("and", 2), ("or", 1), ("or", 2)]
    first, *_, last = rows
    assert (first.salient, first.salient_mean, first.reference_salient_mean) == (2, 0.5, 0.75)
    assert (last.salient_mean_all_orders, last.reference_salient_mean_all_orders) == (1.0, 1.5)
    assert (first.completeness, last.completeness) == (0.5, 0.75)
    assert last.completeness_all_orders == 0.5
    assert (first.completeness_ceiling, first.redundancy_floor) == pytest.approx((0.8, 0.1))
    assert (last.completeness_ceiling, last.redundancy_floor) == pytest.approx((0.2, 0.6))
    assert (last.completeness_ceiling_all_orders, last.redundancy_floor_all_orders) == pytest.approx((0.45, 0.5))
    plain = next(iter(rows_of(compared, {}, "output", 4)))
    assert (plain.completeness_ceiling, plain.redundancy_floor) == (None, None)


def report(**given):
    compared = {"block.1": comparison([[0.5, NAN], [0.25, 0.75]]), "block.2": comparison([[1.0, 0.1], [0.5, 0.0]])}
    basic = {
        "rows": list(rows_of(compared, {}, "output", 1)),
        "reference": "output",
        "noun": "layer",
        "n_samples": 1,
        "draws": 0,
        "accuracies": {},
        "about": [about("")],
        "tau": 0.05,
        "scope": "dataset",
        "literal_eq6": False,
        "ratio": "sum",
    }
    return Report(**{**basic, **given})


def about(text, explained=""):
    return SimpleNamespace(text=text, explained=explained)


def test_samples_are_listed_where_one_has_a_text():
    assert rendering._samples(report()) == []
    both = [about("not good", "class 1"), about("", "positive")]
    assert [line.rstrip() for line in rendering._samples(report(about=both))] == [
        "0  class 1   not good",
        "1  positive",
    ]
    ten = [about("a film", "x")] * 10
    assert rendering._samples(report(about=ten)) == [f"{i}  x  a film" for i in range(10)]
    twelve = rendering._samples(report(about=ten + ten[:2]))
    assert len(twelve) == 11
    assert twelve[-1] == "... and 2 more"


def test_options_are_said_in_words():
    line = rendering.options_line(report())
    assert line == "salient: above 0.05 of the largest effect of the data set; ratios of sums"
    other = rendering.options_line(report(scope="sample", ratio="mean", literal_eq6=True))
    assert "of each sample; means of the samples' ratios; Eq. 6 taken literally" in other


def test_cells_of_the_tables_are_the_numbers_of_their_row():
    accuracies = {"block.1": (0.9, NAN), "block.2": (0.9, 0.8)}
    complete, redundant, salient = rendering.tables(report(accuracies=accuracies))
    assert complete.header == ["block.", "probe", "AND 1", "AND 2", "all AND", "OR 1", "OR 2", "all OR"]
    assert (complete.front, complete.first_or) == (2, 5)
    assert complete.rows == [
        ["1", "0.90", "0.50", "-", "0.50", "0.25", "0.75", "0.50"],
        ["2", "0.80", "1.00", "0.10", "0.55", "0.50", "0.00", "0.25"],
    ]
    assert redundant.rows[0] == ["1", "0.90", "0.50", "-", "0.50", "0.75", "0.25", "0.50"]
    assert salient.rows[0] == ["1", "0.90", "2.0", "0.0", "2.0", "2.0", "2.0", "4.0"]
    assert salient.rows[-1] == ["output", "", "3.0", "0.0", "3.0", "3.0", "3.0", "6.0"]


@pytest.mark.parametrize(("orders", "shown", "hidden"), [(3, 3, False), (4, 4, False), (5, 4, True)])
def test_few_orders_are_shown(orders, shown, hidden):
    rows = list(rows_of({"a": comparison([[0.5] * orders, [NAN] * orders])}, {}, "output", 1))
    chosen, left = rendering._columns(report(rows=rows))
    assert [name for name, *_ in chosen] == [*(f"AND {m + 1}" for m in range(shown)), "all AND", "all OR"]
    assert left == hidden


def test_the_beginning_that_labels_share():
    assert prefix_of(["a.b.c", "a.b.d"]) == "a.b."
    assert prefix_of(["a.b.c", "a.d.c"]) == "a."
    assert prefix_of(["a.b", "a.b.c"]) == "a."
    assert prefix_of(["a.b"]) == ""
    assert prefix_of(["a", "b"]) == ""


@pytest.mark.parametrize("length", [31, 32, 33, 60])
def test_long_labels_are_cut_in_front(length):
    label = "".join(chr(97 + i % 26) for i in range(length))
    shown = shown_label(label)
    assert len(shown) == min(length, 32)
    assert shown == label if length <= 32 else shown == f"...{label[-29:]}"


def test_equal_parts_of_a_sequence():
    assert [list(part) for part in _split(list(range(6)), 3)] == [[0, 1], [2, 3], [4, 5]]


# ---------------------------------------------------------------- conventions side by side


def conventions(states=("block.1", "block.2"), orders=4):
    def one(shift):
        rows = [[0.1 * m + shift for m in range(1, orders + 1)], [NAN] * orders]
        return {state: comparison([[x + 0.01 * k for x in rows[0]], rows[1]]) for k, state in enumerate(states)}

    return Sensitivity({"as extracted": one(0.0), "AND only": one(0.2)}, "output")


def test_conventions_are_shown_by_kind_and_order_up_to_three():
    lines = repr(conventions()).splitlines()
    assert [line[:10].strip() for line in lines[2:]] == ["AND 1", "", "AND 2", "", "AND 3", "", "all AND", ""]
    assert lines[0] == "completeness under 2 conventions; columns: layers of block"
    assert lines[1].split() == ["1", "2"]
    assert lines[2].split() == ["AND", "1", "as", "extracted", "0.10", "0.11"]
    assert lines[3].split() == ["AND", "only", "0.30", "0.31"]
    assert lines[8].split() == ["all", "AND", "as", "extracted", "0.25", "0.26"]
    short = repr(conventions(orders=2))
    assert "AND 2" in short
    assert "AND 3" not in short


@pytest.mark.parametrize("count", [9, 10, 19])
def test_many_states_are_shown_in_blocks_that_fit_a_line(count):
    lines = repr(conventions(tuple(f"s{i}" for i in range(count)))).splitlines()
    heads = [line.split() for line in lines if line.split()[0].startswith("s") and line.startswith("   ")]
    assert [name for head in heads for name in head] == [f"s{i}" for i in range(count)]
    assert max(map(len, lines)) <= 80
    fitting = (80 - 14 - 10) // 6
    assert [len(head) for head in heads] == [min(fitting, count - i) for i in range(0, count, fitting)]


def test_the_spread_is_over_the_conventions_that_have_a_share():
    found = Sensitivity(
        {
            "one": {"a": comparison([[0.1, NAN], [NAN, 0.5]])},
            "two": {"a": comparison([[0.4, 0.2], [NAN, 0.3]])},
        },
        "output",
    ).spread()["a"]
    assert found[0].tolist() == pytest.approx([0.3, 0.0])
    assert found[1, 0].isnan()
    assert float(found[1, 1]) == pytest.approx(0.2)
    assert len(conventions()) == 2


# ---------------------------------------------------------------- what states have in common


def recorded(**provenance):
    return SimpleNamespace(provenance=provenance)


def under(noise=0.04, kappa=None, **more):
    return recorded(decomposition={"noise": noise, "kappa": kappa}, **more)


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (under(), under(), None),
        (under(), under(noise=0.02), "the noise 0.04 at 'a' and 0.02 at 'b'"),
        (under(kappa=0.1), under(kappa=0.2), "the kappa 0.1 at 'a' and 0.2 at 'b'"),
        (under(kappa=0.1), under(), None),  # not both are known
        (under(baseline="zeros"), under(baseline="mean"), "the baseline zeros at 'a' and mean at 'b'"),
        (under(background="x"), under(background="y"), "the background x at 'a' and y at 'b'"),
        (under(tokenizer="t"), under(tokenizer="u"), None),
        (under(tokenizer="t", baseline="[MASK]"), under(tokenizer="u", baseline="<mask>"), None),
        (under(tokenizer="t", baseline="[MASK]"), under(tokenizer="t", baseline="[PAD]"), r"the baseline \[MASK\] at"),
        (recorded(), under(), None),
    ],
)
def test_other_conditions_are_told_where_both_are_known(one, other, told):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checks._warn_of_conditions({"a": [under(), one], "b": [under(), other], "c": [under(), other]})
    assert len(caught) == (told is not None)  # of the first state alone
    for warning in caught:
        assert re.search(f"sample 1 has {told}", str(warning.message))


def test_states_share_the_question_and_the_parts_of_its_origin():
    def of(model, layer, explained):
        origin = (("model", model), ("layer", layer), ("score", "logit"))
        return SimpleNamespace(about=About(origin, explained, text=f"text of {explained}"))

    states = [[of("A", "1", "x"), of("A", "1", "y")], [of("A", "2", "z"), of("B", "2", "w")]]
    first, second = shared_about(states)
    assert first == About((("model", "A"), ("score", "logit")), "x", text="text of x")
    assert second == About((("score", "logit"),), "y", text="text of y")


def test_states_share_the_entries_that_all_samples_have():
    states = [
        [recorded(score="logit", seed=1, target=0), recorded(score="logit", seed=1, target=1)],
        [recorded(score="logit", seed=1, target=0), recorded(score="logit", seed=2, target=1)],
    ]
    assert shared_provenance(states) == {"score": "logit", "samples": 2, "targets": [0, 1]}
