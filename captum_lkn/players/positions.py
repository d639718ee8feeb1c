"""Arguments by keyword, brought to the positions that a forward function has for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from captum_lkn._common.messages import some_of
from captum_lkn.models.arguments import Fixed
from captum_lkn.models.hugging_face.facts import is_hugging_face, parameters_of
from captum_lkn.models.model import Model

__all__ = ["behind_the_inputs"]


def behind_the_inputs(
    forward_func: Callable[..., Any] | None, inputs: Sequence[str], others: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Return the arguments that follow the inputs by position.

    Args:
        forward_func: The function, whose parameters have names; None is refused.
        inputs: The names of the first arguments.
        others: The further arguments by name.

    Returns:
        The further arguments in the order of the function's parameters, with the default of each that is not given, up
        to the last that is.

    Raises:
        TypeError: There is no function, or its parameters do not take these arguments by position.

    Example:
        >>> def forward(ids, mask=None, types=None):
        ...     return ids
        >>> behind_the_inputs(forward, ["ids"], {"types": 1})
        (None, 1)
    """
    given = [*inputs, *others]
    if forward_func is None:
        raise TypeError(
            f"the arguments have names ({some_of(given)}), and Captum's methods pass them by position: give the model, "
            "captum_arguments(model), for the order of its parameters"
        )
    name, parameters = Model(forward_func).name, _parameters(forward_func)
    order = list(parameters)
    if order[: len(inputs)] != list(inputs):
        raise TypeError(
            f"{name} takes {some_of(order) or 'no argument with a name'} by position, and Captum's methods pass what "
            f"is masked first, {some_of(inputs)}: give a function that begins with it, such as "
            f"lambda {', '.join(given)}: model({', '.join(f'{one}={one}' for one in given)}).logits"
        )
    rest = order[len(inputs) :]
    if unknown := [other for other in others if other not in rest]:
        raise TypeError(f"{name} does not take {some_of(unknown)} by position; it takes {some_of(order)}")
    needed = rest[: max((rest.index(other) + 1 for other in others), default=0)]
    if missing := [one for one in needed if one not in others and parameters[one].default is inspect.Parameter.empty]:
        raise TypeError(f"{name} needs {some_of(missing)}, which the players do not have: add it to their inputs")
    values = [others.get(one, parameters[one].default) for one in needed]
    return tuple(value.value if isinstance(value, Fixed) else value for value in values)


def _parameters(forward_func: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that a function, or the forward of a model in its wrappers, takes by position."""
    inner = Model(forward_func).inner
    try:
        found = (
            parameters_of(inner)
            if is_hugging_face(inner)
            else inspect.signature(getattr(inner, "forward", inner)).parameters
        )
    except (TypeError, ValueError):  # written in C
        return {}
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {name: parameter for name, parameter in found.items() if parameter.kind in by_position}
