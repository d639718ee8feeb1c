import pytest
import torch

from captum_lkn.decomposition import decompose
from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.knowledge import KnowledgeChange

PROGRAM = {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0}


def batch(*tables, **options):
    tables = [torch.tensor(v, dtype=torch.float64) for v in tables]
    words = ("not", "good", "scene")
    return InteractionsBatch(
        Interactions.from_decomposition(words[: len(v).bit_length() - 1], v, decompose(v, **options)) for v in tables
    )


def change(**options):
    """Two layers of two samples; at the output *not* and *good* have opposite signs, so that OR may take a part."""
    early = batch([0.0, 1.0, -0.5, 0.5], [0.0, 0.4, 0.3, 0.7, 0.1, 0.6, 0.4, 1.1], **options)
    output = batch([0.0, 1.0, -0.5, 2.5], [0.0, 0.2, 0.3, 1.7, 0.2, 0.3, 0.5, 2.1], **options)
    return KnowledgeChange({"block.early": early, "output": output})


def test_the_first_convention_is_the_extraction_and_the_others_are_decompositions_with_their_options():
    made = change()
    found = made.sensitivity()
    assert list(found) == ["as extracted", "the paper's program", "order_weight 0", "or_weight 1", "AND only"]
    others = {"as extracted": made, "the paper's program": change(**PROGRAM), "AND only": change(kind="and")}
    for name, expected in others.items():
        for share in ("completeness", "redundancy"):
            here, there = (getattr(each["block.early"], share) for each in (found[name], expected))
            torch.testing.assert_close(here, there, equal_nan=True)
    assert not found["AND only"]["block.early"].all[1].any()


def test_own_conventions_replace_options_and_each_table_keeps_its_kappa():
    made = change(kappa=0.05)
    found = made.sensitivity({"the same": {}, "heavier": {"order_weight": 1.0}})
    torch.testing.assert_close(found["the same"]["block.early"].all, made["block.early"].all, rtol=1e-9, atol=1e-12)
    heavier = change(kappa=0.05, order_weight=1.0)
    torch.testing.assert_close(found["heavier"]["block.early"].all, heavier["block.early"].all)
    for new in ({"kappa": 0.01}, {"noise": 0.0}):
        found = made.sensitivity({"new": new})["new"]["block.early"]
        torch.testing.assert_close(found.all, change(**new)["block.early"].all, rtol=1e-9, atol=1e-12)
    again = made.interactions["output"].decompose(noise=0.0)
    assert [(one.kappa, one.options.kappa, one.options.noise) for one in again] == [(0.0, None, 0.0)] * len(again)
    with pytest.raises(TypeError, match="oder_weight"):
        made.sensitivity({"misspelt": {"oder_weight": 0.0}})


def test_the_spread_is_the_largest_difference_and_leaves_out_what_has_no_value():
    found = change().sensitivity()
    spread = found.spread()["block.early"]
    shares = torch.stack([each["block.early"].completeness for each in found.values()])
    for k in range(2):
        for m in range(shares.shape[2]):
            known = [x for x in shares[:, k, m].tolist() if x == x]
            if known:
                assert float(spread[k, m]) == pytest.approx(max(known) - min(known))
            else:
                assert spread[k, m].isnan()


def test_conventions_are_printed_side_by_side_and_in_a_frame():
    found = change().sensitivity()
    lines = repr(found).splitlines()
    assert lines[0] == "completeness under 5 conventions; columns: layers"
    assert lines[1].split() == ["block.early"]
    first = [line for line in lines if line.startswith("  AND 1")]
    assert len(first) == 1
    assert "as extracted" in first[0]
    assert all(len(line) <= 80 for line in lines)
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'captum-lkn[frame]'")
    frame = found.to_frame()
    assert len(frame) == 5 * 1 * 2 * 3
    assert frame["convention"].unique().tolist() == list(found)


def test_refitted_layers_are_refitted_again():
    made = change()
    refitted = KnowledgeChange({label: each.refit() for label, each in made.interactions.items()})
    found = refitted.sensitivity({"the same": {}})
    torch.testing.assert_close(
        found["the same"]["block.early"].completeness, refitted["block.early"].completeness, equal_nan=True
    )
    drawn = refitted.with_noise_ceiling(draws=1, value_noise=0.0, jitter=0.0)
    known = drawn.own["output"].completeness
    assert known[~known.isnan()].tolist() == pytest.approx([1.0] * int((~known.isnan()).sum()))
