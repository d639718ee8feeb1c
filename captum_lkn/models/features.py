"""Models whose layers are what a function returns of them, such as a trace of nnsight or a cache of TransformerLens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import kind_of, some_of

__all__ = ["FeatureModel"]


class FeatureModel(nn.Module):
    """Model that runs a function, which returns the output and features of layers.

    Each layer becomes a module of its name, through which its features pass. So whatever reads layers of a model reads
    them: :class:`captum_lkn.LayerAndOrInteraction`, :class:`captum_lkn.LayerwiseKnowledge`,
    :class:`captum_lkn.LinearProbes`. A layer is pooled as any other; `Layer(name, pool=...)` chooses the pooling.

    Args:
        function: ``function(*inputs, **keywords)`` returns the model's output and a mapping from the names of layers to
            their features, tensors ``[R, ...]`` with a row for each row of the inputs. It gets the arguments that a
            model would get.
        layers: The names of the layers; they may have dots.
        module: The network that the function runs, if it is one: it is evaluated in evaluation mode and on its device,
            and probes know its weights, so that those fitted to the network itself fit.

    Raises:
        TypeError: The function cannot be called, `layers` are not names, `module` is not an ``nn.Module``.
        ValueError: There is no layer, one twice, or a name that no module can have.

    Example:
        >>> import torch
        >>> from captum_lkn import LayerAndOrInteraction
        >>> def run(x):
        ...     both = (x[:, 0] * x[:, 1])[:, None]
        ...     return both + x[:, 2:], {"early.conjunction": both}
        >>> model = FeatureModel(run, ["early.conjunction"])
        >>> method = LayerAndOrInteraction(model, "early.conjunction", probe=lambda f: f, score="logit", noise=0)
        >>> print(*method.attribute(torch.ones(1, 3))[0].top())
        0 & 1  +1.00
    """

    @checked("layers")
    def __init__(
        self,
        function: Callable[..., tuple[Any, Mapping[str, Tensor]]],
        layers: Sequence[str],
        module: nn.Module | None = None,
    ) -> None:
        super().__init__()
        given: Any = layers
        if not callable(function):
            raise TypeError(f"function must be callable; got {kind_of(function)}")
        if isinstance(given, str) or not all(isinstance(name, str) and name for name in given):
            raise TypeError(f"layers must be a list of names of layers; got {given!r}")
        if not given or len(set(given)) < len(given):
            raise ValueError(f"layers must have at least one name, each once; got {some_of(given) or 'none'}")
        if module is not None and not isinstance(module, nn.Module):
            raise TypeError(f"module must be an nn.Module or None; got {kind_of(module)}")
        self._function = function
        self._names = tuple(given)
        for name in self._names:
            _add_module(self, name)
        self.eval()  # before the network comes, whose modules keep their own flags
        self.module = module  # a name as wrappers have it, so that a probe takes the weights for the network's own

    @checked()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, and let the features of each layer pass through its module.

        Returns:
            The model's output.

        Raises:
            TypeError: The function returns something else than an output and a mapping of tensors.
            ValueError: The features of a layer are missing.
        """
        returned: Any = self._function(*args, **kwargs)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping)):
            raise TypeError(f"function must return the output and a mapping of features; got {kind_of(returned)}")
        output, features = returned
        for name in self._names:
            if name not in features:
                raise ValueError(
                    f"function must return features of layer {name!r}; got those of {some_of(list(features))}"
                )
            if not isinstance(features[name], Tensor):
                raise TypeError(f"features of layer {name!r} must be a tensor [R, ...]; got {kind_of(features[name])}")
            self.get_submodule(name)(features[name])
        return output


def _add_module(root: nn.Module, name: str) -> None:
    """Add a module that passes on what it gets, by a dotted name."""
    place = root
    for part in name.split("."):
        if part not in place._modules:
            if not part or part.startswith("_") or part == "module" or hasattr(place, part):
                raise ValueError(
                    f"layers must have names that modules can have; got {name!r}, in which {part!r} is empty, begins "
                    "with _ or is a name that nn.Module or FeatureModel uses. Call the layer otherwise, in the mapping "
                    "too"
                )
            place.add_module(part, nn.Identity())
        place = place.get_submodule(part)
