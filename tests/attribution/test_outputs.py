"""Outputs of masked copies that are kept."""

import math
import re

import pytest
import torch

from captum_lkn.attribution.outputs import KeptOutputs


@pytest.mark.parametrize(
    ("wrong", "class_names", "said"),
    [
        (
            [(0, 0, math.inf)],
            (),
            "1 of 24 that are not, the first inf in output 0 with the players {} present (mask 0",
        ),
        (
            [(7, 0, math.inf), (5, 2, math.nan)],
            ("a", "b", "c"),
            "2 of 24 that are not, the first nan in output 2 ('c') with the players {not, film} present (mask 5 of 8)",
        ),
        ([(6, 1, -math.inf)], ("a",), "first -inf in output 1 with the players {good, film} present (mask 6 of 8)"),
    ],
)
def test_outputs_that_are_not_finite_are_counted_and_the_first_is_named(wrong, class_names, said):
    outputs = torch.zeros(8, 3)
    for mask, column, value in wrong:
        outputs[mask, column] = value
    with pytest.raises(
        ValueError, match=rf"^outputs must be finite; got .*{re.escape(said)}.*Evaluate the outputs again$"
    ):
        KeptOutputs(outputs, "classes", class_names, ("not", "good", "film"), None, {}, 1e-7)
