"""Sparse, nested and quantised tensors: as further arguments they go with their samples, elsewhere they are refused."""

import pytest
import torch

from captum_lkn import ExactShapleyValues, Fixed, players_from_mask
from captum_lkn.models.arguments import Arguments

X = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
WEIGHTS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
RIGHT = X * WEIGHTS  # the forward is linear

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse CS"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]


def nested(layout):
    return torch.nested.nested_tensor(list(WEIGHTS), layout=layout)


LAYOUTS = {
    "coo": (lambda: WEIGHTS.to_sparse(), torch.Tensor.to_dense),
    "csr": (lambda: WEIGHTS.to_sparse_csr(), torch.Tensor.to_dense),
    "csc": (lambda: WEIGHTS.to_sparse_csc(), torch.Tensor.to_dense),
    "nested": (lambda: nested(torch.strided), lambda x: x.to_padded_tensor(0.0)),
    "jagged": (lambda: nested(torch.jagged), lambda x: x.to_padded_tensor(0.0)),
    "quantised": (lambda: torch.quantize_per_tensor(WEIGHTS, 0.5, 0, torch.qint8), torch.Tensor.dequantize),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_a_further_argument_go_with_their_samples(layout):
    if layout == "jagged" and torch.__version__ < (2, 5):
        pytest.skip("torch 2.4 pads no jagged tensor, which the test's forward does")
    made, dense = LAYOUTS[layout]
    argument = made()
    found = ExactShapleyValues(lambda x, w: (x * dense(w)).sum(1)).attribute(X, additional_forward_args=argument)
    torch.testing.assert_close(found, RIGHT)
    (rows,) = Arguments((X,), None, (argument,)).rows(torch.tensor([2, 0, 2]), 3).positional
    assert rows.layout == argument.layout
    assert torch.equal(dense(rows), WEIGHTS[[2, 0, 2]])


def test_a_sparse_matrix_that_is_not_rows_is_passed_on():
    ring = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse()
    method = ExactShapleyValues(lambda x, a: torch.sparse.mm(a, x.T).T[:, 0])
    found = method.attribute(X[:2], additional_forward_args=Fixed(ring))
    torch.testing.assert_close(found, torch.tensor([[0.0, 2.0], [0.0, 4.0]]))


UNUSUAL = {
    "sparse": (lambda: X.to_sparse(), r"dense; got layout torch.sparse_coo"),
    "nested": (lambda: torch.nested.nested_tensor(list(X)), "dense; got a nested tensor"),
    "quantised": (lambda: torch.quantize_per_tensor(X, 0.5, 0, torch.qint8), r"quantised; got torch.qint8"),
    "meta": (lambda: X.to("meta"), "hold data"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_inputs_and_outputs_of_another_layout_are_refused(kind):
    made, message = UNUSUAL[kind]
    with pytest.raises(TypeError, match=rf"input 0 must.*{message}"):
        players_from_mask(made())
    with pytest.raises(TypeError, match=rf"baseline 0 must.*{message}"):
        players_from_mask(X, baselines=made())
    with pytest.raises(TypeError, match=rf"the output of the forward must.*{message}"):
        ExactShapleyValues(lambda _: made()).attribute(X, target=0)


def test_a_feature_mask_of_another_layout_is_refused():
    with pytest.raises(TypeError, match="feature_mask 0 must be dense"):
        players_from_mask(X, feature_mask=torch.tensor([[0, 1]]).to_sparse())
