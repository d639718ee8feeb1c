"""Estimators: models of tables with the methods of scikit-learn, called as forward functions.

scikit-learn's own estimators and pipelines, XGBoost's and LightGBM's have these methods. A table goes in as it is, a
NumPy array or a data frame; a tensor comes out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of, some_of
from captum_lkn.outputs.score import OutputKind

__all__ = ["Estimator", "is_estimator", "numbers_of", "tensor_of"]

_METHODS: Final = ("predict_proba", "decision_function", "inplace_predict", "predict")
"""The methods whose numbers are explained, the first that there is; XGBoost's Booster predicts arrays in place."""

_LABELS: Final = (
    "whose labels are not numbers to be explained. Give a function from a table to numbers, or a classifier with "
    "predict_proba or decision_function"
)
_SUM_TOLERANCE: Final = 1e-3  # of the probabilities of a row, which XGBoost rounds to float32


def is_estimator(model: Any) -> bool:
    """Return whether a model has the methods of an estimator, and cannot be called itself.

    Example:
        >>> from sklearn.linear_model import LinearRegression
        >>> is_estimator(LinearRegression()), is_estimator(torch.nn.Linear(2, 1))
        (True, False)
    """
    return not callable(model) and callable(getattr(model, "predict", None))


class Estimator:
    """Forward function of an estimator, from a table to a tensor.

    ==========================  ====================================================================
    the estimator has           outputs ``[R, C]``
    ==========================  ====================================================================
    ``predict_proba``           the logarithms of the probabilities of its classes: logits, of which
                                the softmax is the probabilities
    ``decision_function``       its numbers; of two classes 0 and the number, as logits
    ``predict``, no classes     its numbers, plain values
    ==========================  ====================================================================

    Args:
        estimator: The fitted estimator.

    Attributes:
        estimator: The same.
        method: The name of the method that is called.
        class_names: The names of the classes; empty: there are none.

    Raises:
        TypeError: It returns labels alone, such as clusters, which are not numbers to be explained.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> classifier = LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
        >>> forward = Estimator(classifier)
        >>> forward.class_names, forward(np.array([[0.5]])).softmax(1)
        (('no', 'yes'), tensor([[0.5000, 0.5000]], dtype=torch.float64))
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.method = next(name for name in _METHODS if callable(getattr(estimator, name, None)))
        classes = getattr(estimator, "classes_", None)
        self.class_names = (
            () if classes is None or not len(classes) or np.ndim(classes[0]) else tuple(map(str, classes))
        )
        if self.class_names and self.method == "predict":
            raise TypeError(f"{self.name} has predict alone, {_LABELS}")
        self._checked = False

    @property
    def name(self) -> str:
        """The class of the estimator."""
        return type(self.estimator).__name__

    @property
    def kind(self) -> OutputKind:
        """The columns of the output: classes, or plain values."""
        return "classes" if self.class_names or self.method == "predict_proba" else "values"

    @property
    def advice(self) -> str:
        """A remedy for values that are not finite, for a message."""
        if self.method != "predict_proba":
            return ""
        return (
            f"{self.name} gives a class the probability 0 or 1 here, whose log-odds are infinite: give score='prob', "
            "which explains the probability"
        )

    def __call__(self, table: Any) -> Tensor:
        """Return the outputs for the rows of a table.

        Args:
            table: A data frame or an array ``[R, F]``, as the estimator takes it; a tensor goes in as an array.

        Raises:
            TypeError: The estimator returns something else than an array of numbers, or labels.
            ValueError: The probabilities of a row do not add up to 1, as those of several labels; or the columns of
                ``decision_function`` are not the classes, but labels that do not exclude each other, or pairs.
        """
        given = table.detach().cpu().numpy() if isinstance(table, Tensor) else table
        returned = getattr(self.estimator, self.method)(given)
        if self.method == "predict" and np.asarray(returned).dtype.kind in "iub":
            raise TypeError(f"{self.name}.predict returns {np.asarray(returned).dtype}, as of labels, {_LABELS}")
        output = tensor_of(returned, f"{self.name}.{self.method}")
        if self.method == "predict_proba":
            return self._logits(output)
        if self.class_names and output.dim() == 1:
            return torch.stack([torch.zeros_like(output), output], 1)
        if self.class_names and not self._checked:
            self._check_columns(given[:1], output)
            self._checked = True
        return output

    def predicted(self, table: Any) -> Tensor:
        """Return the classes that the estimator predicts for the rows of a table, int64 ``[R]``, by their columns.

        Args:
            table: As for the call.

        Raises:
            ValueError: It predicts something that is none of its classes.
        """
        given = table.detach().cpu().numpy() if isinstance(table, Tensor) else table
        columns: dict[Any, int] = {label: i for i, label in enumerate(np.asarray(self.estimator.classes_).tolist())}
        labels = np.asarray(self.estimator.predict(given)).reshape(-1).tolist()
        unknown = [label for label in labels if label not in columns]
        if unknown:
            raise ValueError(
                f"{self.name}.predict must return one of its classes_, {some_of(list(columns))}; got {unknown[0]!r}. "
                "Give the class as target"
            )
        return torch.tensor([columns[label] for label in labels], device="cpu")

    def _check_columns(self, row: Any, output: Tensor) -> None:
        """Check that the columns of ``decision_function`` are classes of which each row has one.

        The largest need not be the class that is predicted: a support vector machine predicts by the votes of pairs.
        """
        of_pairs = getattr(_innermost(self.estimator), "decision_function_shape", "") == "ovo"
        several = np.ndim(self.estimator.predict(row)) != 1
        if several or output.shape[1:] != (len(self.class_names),) or (of_pairs and len(self.class_names) > 2):
            raise ValueError(
                f"the columns of {self.name}.decision_function must be the classes, of which a row has one; got "
                f"{kind_of(output)} of {'several labels' if several else 'pairs of classes'}. Give a function that "
                "selects one: lambda table: model.decision_function(table)[:, 0], with score='logit'"
            )

    def _logits(self, p: Tensor) -> Tensor:
        if bool(p.isnan().any()):
            raise ValueError(f"{self.name}.predict_proba must return numbers; got NaN, as of cells without a value")
        if p.dim() != 2 or bool(((p.double().sum(1) - 1).abs() > _SUM_TOLERANCE).any()):
            raise ValueError(
                f"the probabilities of {self.name}.predict_proba must add up to 1 in each row; got {kind_of(p)} with "
                "other sums, as of several labels. Give a function that selects one: "
                "lambda table: model.predict_proba(table)[:, 0], with score='logit'"
            )
        return p.log()


def _innermost(estimator: Any) -> Any:
    """Return the estimator at the end of a pipeline, or the one that a search found."""
    while True:
        steps = getattr(estimator, "steps", None)
        inner = steps[-1][1] if steps else getattr(estimator, "best_estimator_", None)
        if inner is None:
            return estimator
        estimator = inner


def numbers_of(table: Any) -> Tensor:
    """Return a table of numbers as one tensor, on the CPU; columns of a data frame may differ in their dtypes.

    Args:
        table: An array or a data frame ``[R, F]``; a missing value becomes NaN.

    Raises:
        TypeError: Columns hold something else than numbers.

    Example:
        >>> import pandas as pd
        >>> numbers_of(pd.DataFrame({"age": [52], "income": [1.5], "member": [True]}))
        tensor([[52.0000,  1.5000,  1.0000]], dtype=torch.float64)
    """
    if not hasattr(table, "columns"):
        return tensor_of(table, "the table")
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    others = [
        str(name)
        for name, dtype in table.dtypes.items()
        if not (is_numeric_dtype(dtype) or is_bool_dtype(dtype)) or getattr(dtype, "kind", "f") == "c"
    ]
    if others:
        raise TypeError(
            f"an nn.Module takes columns of numbers; got {some_of(others)} of the dtypes "
            f"{some_of([str(table[name].dtype) for name in table.columns if str(name) in others])}. Encode them as "
            "numbers, or give a function that does so and calls the module"
        )
    return torch.tensor(table.to_numpy(dtype=np.float64, na_value=np.nan), device="cpu")


def tensor_of(returned: Any, name: str) -> Tensor:
    """Return an array of numbers, or a column of a data frame, as a tensor on the CPU.

    Args:
        returned: What a function returned.
        name: Its name, for the message.

    Raises:
        TypeError: It holds something else than numbers.
    """
    array = np.asarray(returned) if hasattr(returned, "__array__") else None
    if array is None or array.dtype.kind not in "fiub":
        held = "" if array is None else f" of {array.dtype}"
        raise TypeError(
            f"{name} must return an array of numbers, a row for each row of the table; got {kind_of(returned)}{held}. "
            "Give a function that selects one: lambda table: model.predict_proba(table)[0]"
        )
    # A copy: the array may be a view of what the estimator keeps, or not writable. Integers are values as well.
    return torch.tensor(array if array.dtype.kind == "f" else array.astype(np.float64), device="cpu")
