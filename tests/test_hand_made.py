"""Result objects made by hand are checked when they are made, as those of files are: see `hand_made.py`."""

import dataclasses
import pathlib
import warnings

import pytest
import torch
from hand_made import objects, outcome, rows

import captum_lkn as lkn
from captum_lkn.decomposition import Effects
from captum_lkn.sampling.masks import MaskPlan
from captum_lkn.values.sampled import SampledValues
from captum_lkn.values.tables import ValueTables


@pytest.fixture(scope="module")
def made():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return objects()


def test_one_wrong_field_is_refused_by_name(made, full):
    every = rows(made)
    assert len(every) > 1200
    wrong = []
    for name, field, key, value, must in every if full else every[::3]:
        came = outcome(made[name], field, value)
        if came not in ("refused", "used") or (must and came == "used"):
            wrong.append((name, field, key, came))
    assert not wrong, "\n".join(map(str, wrong))


def replaced(name, **fields):
    return lambda made: dataclasses.replace(made[name], **{key: value(made) for key, value in fields.items()})


def with_an_or(made):
    return Effects.of(3, [("or", (0, 1), 1.0)])


MISFITS = {
    "effects of other players": (replaced("Interactions", effects=lambda _: Effects.of(4, [])), "of the players"),
    "a label fewer": (replaced("Interactions", players=lambda _: ("a", "b")), "of the players"),
    "a table of other effects": (replaced("Interactions", values=lambda _: torch.ones(8).double()), "within kappa"),
    "a smaller kappa": (replaced("Interactions", kappa=lambda _: 0.0), "within kappa"),
    "options of AND effects, and an OR effect": (
        lambda made: lkn.Interactions(
            ("a", "b", "c"),
            with_an_or(made),
            with_an_or(made).reconstruction,
            0.0,
            0.0,
            options=lkn.DecompositionOptions(kind="and"),
        ),
        "options must be those of the effects",
    ),
    "refits of other effects": (
        lambda made: dataclasses.replace(made["SampledInteractions"], effects=Effects.of(24, [])),
        "refits must be",
    ),
    "a batch of something else": (lambda made: lkn.InteractionsBatch([made["Effects"]]), "Interactions"),
    "a batch of sampled ones": (lambda made: lkn.InteractionsBatch([made["SampledInteractions"]]), "Interactions"),
    "a batch of all masks as sampled": (lambda made: lkn.SampledBatch([made["Interactions"]]), "Interactions"),
    "one probe twice": (lambda made: lkn.LinearProbes([made["LinearProbe"]] * 2), "0"),
    "states of other samples": (
        lambda made: lkn.KnowledgeChange(
            {"a": made["InteractionsBatch"], "output": lkn.InteractionsBatch([made["Interactions"]])}
        ),
        "of the same samples",
    ),
    "draws of other states": (
        replaced(
            "KnowledgeChange",
            noise_ceiling=lambda made: dataclasses.replace(
                made["NoiseCeiling"], effects={"0": made["NoiseCeiling"].effects["0"]}
            ),
        ),
        "draws of the noise ceiling",
    ),
    "draws that differ in number": (
        lambda made: dataclasses.replace(
            made["NoiseCeiling"],
            effects={label: ((drawn[0][:1]), *drawn[1:]) for label, drawn in made["NoiseCeiling"].effects.items()},
        ),
        "as many draws",
    ),
    "a summary without a measure": (
        replaced("StudySummary", rows=lambda made: made["StudySummary"].rows[1:]),
        "rows must have the measures",
    ),
    "a combination in more samples than there are": (replaced("StrongestCombinations", n_samples=lambda _: 1), "rows"),
    "a combination from high to low": (
        replaced(
            "StrongestCombinations",
            rows=lambda made: (made["StrongestCombinations"].rows[0]._replace(low=2.0, high=1.0),),
        ),
        "rows must have an interval",
    ),
    "a range from high to low": (
        replaced("EffectRanges", ranges=lambda made: (made["EffectRanges"][0]._replace(low=9.0),)),
        "from low to high",
    ),
    "conventions of other states": (
        replaced("Sensitivity", comparisons=lambda made: {**made["Sensitivity"], "b": {"0": made["Comparison"]}}),
        "of the same states",
    ),
    "strengths of other samples": (
        replaced("Comparison", samples=lambda made: made["Comparison"].samples._replace(new=torch.ones(1, 2, 3))),
        "samples must be tensors of one shape",
    ),
    "a class that the model has not": (replaced("Target", indices=lambda _: torch.tensor([[3]])), "indices must be"),
    "a target of another output": (replaced("Target", shape=lambda _: (2, 3)), "indices must have the shape"),
    "files of other samples": (
        replaced("Study", folders=lambda made: {"x": pathlib.Path()}),
        "folders must be of the study's keys",
    ),
    "a study without a score": (
        replaced("Study", settings=lambda made: {**made["Study"].settings, "score": None}),
        "settings must have 'score'",
    ),
    "agreements of other baselines": (
        lambda made: dataclasses.replace(made["BaselineComparison"], interactions={"a": made["InteractionsBatch"]}),
        "agreements must be of pairs",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_parts_that_do_not_fit_each_other_are_refused(made, name):
    make, said = MISFITS[name]
    with pytest.raises((TypeError, ValueError), match=said):
        make(made)


def test_values_at_sampled_masks_fit_their_plans():
    plan = MaskPlan(*(torch.ones(count, 3, dtype=torch.bool) for count in (4, 2, 2)))
    rest = (None, (), 1, False, torch.float32, 1e-7, None)
    assert SampledValues((torch.zeros(1, 8).double(),), *rest, ({},), (plan,)).plans == (plan,)
    with pytest.raises(ValueError, match="a column for each mask"):
        SampledValues((torch.zeros(1, 7).double(),), *rest, ({},), (plan,))
    with pytest.raises(ValueError, match="evaluations must be one a table"):
        ValueTables((torch.zeros(1, 8).double(),), *rest, ())
    with pytest.raises(ValueError, match="tables must be finite"):
        ValueTables((torch.full((1, 8), torch.nan).double(),), *rest, ({},))
