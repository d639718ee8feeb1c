"""Layers compared by effects from sampled masks."""

import pytest
import torch

from captum_lkn import KnowledgeChange, LayerAndOrInteraction, LayerwiseKnowledge, SampledBatch
from captum_lkn.decomposition import Effects
from captum_lkn.interactions import Interactions, InteractionsBatch


class Net(torch.nn.Module):
    """Knows x3 & x4 and half of x5 early, x1 | x30 late."""

    def __init__(self):
        super().__init__()
        self.early = torch.nn.Identity()

    def forward(self, x):
        early = self.early((2 * x[:, 3] * x[:, 4] + x[:, 5])[:, None])
        return early + (3 * torch.maximum(x[:, 1], x[:, 30]) + x[:, 5])[:, None]


@pytest.fixture(scope="module")
def change():
    study = LayerwiseKnowledge(Net().eval(), "early", probes=lambda feature: feature, score="logit")
    return study.analyze(torch.ones(1, 40), target=0, n_samples=600)


def test_layers_are_compared(change):
    assert isinstance(change.interactions["early"], SampledBatch)
    assert change.normalisers == pytest.approx({"early": 3.0, "output": 7.0})
    found = change["early"]
    # In shares of v(N) - v(empty), 2/3 and 1/3 of the layer, 2/7, 2/7 and 3/7 of the output.
    assert found.completeness[0, :2].tolist() == pytest.approx([1.0, 1.0])
    assert found.redundancy[0, :2].tolist() == pytest.approx([1 - 6 / 7, 1 - 3 / 7])
    assert float(found.completeness[1, 1]) == 0.0
    assert "early" in str(change)


def test_files_pictures_and_reports(change, tmp_path):
    change.save(tmp_path / "change.safetensors")
    again = KnowledgeChange.load(tmp_path / "change.safetensors")
    assert str(again) == str(change)
    assert isinstance(again.interactions["output"], SampledBatch)
    for name in ("flow", "heatmap", "completeness", "matrix"):
        assert getattr(change.plot, name)().fig is not None


def test_what_needs_tables_says_so(change):
    for measure in (change.with_noise_ceiling, change.sensitivity):
        with pytest.raises(ValueError, match="were fitted to sampled masks"):
            measure()
    effects = Effects.of(2, [("and", (0,), 1.0)])
    batch = InteractionsBatch([Interactions(("a", "b"), effects, effects.reconstruction, kappa=0.0, gap=0.0)])
    with pytest.raises(TypeError, match="interactions must all be from all masks or all from sampled ones"):
        KnowledgeChange({"early": change.interactions["early"], "output": batch})


def test_a_list_of_layers_prints_as_a_table():
    method = LayerAndOrInteraction(Net().eval(), ["early", "output"], probe={"early": lambda f: f}, score="logit")
    found = method.attribute(torch.ones(1, 40), n_samples=600)
    assert "early   R^2 1.000" in str(found)
    assert "1 | 30" in found._repr_html_()
    one = LayerAndOrInteraction(Net().eval(), "early", probe=lambda f: f, score="logit")
    alone = one.attribute(torch.ones(1, 40), n_samples=600)
    assert [x.name for x in alone[0].top()] == [x.name for x in found["early"][0].top()] == ["3 & 4", "5"]
