"""Calling a Hugging Face model: by keyword, since positions differ from model to model, and without a cache."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn.models.hugging_face.facts import (
    cache_argument,
    class_names,
    head_sizes,
    output_kind,
    parameters_of,
    takes_token_ids,
)
from captum_lkn.models.hugging_face.head import check_padding_side, pools_at_last_token, token_places
from captum_lkn.models.hugging_face.limits import Limits
from captum_lkn.models.hugging_face.padding import with_position_ids, without_answers_in_padding
from captum_lkn.models.hugging_face.pooling_position import fixed_pooling_position, with_padding_token
from captum_lkn.models.wrappers import without_adapter
from captum_lkn.outputs.score import OutputKind

__all__ = ["HuggingFace"]

_DIMS_OF_IMAGES: Final = 4
_DIMS_OF_IDS: Final = 2


class HuggingFace:
    """The way in which one Hugging Face model is called.

    Args:
        model: The model, without ``DataParallel`` or ``torch.compile`` around it; possibly with an adapter of `peft`.

    Attributes:
        name: The model's class.
        model: The model inside its adapter, if it has one.
        parameters: The parameters of its forward.
        limits: The inputs that it has weights for.
    """

    def __init__(self, model: Any) -> None:
        self.name = type(model).__name__
        self.model = without_adapter(model)
        self.parameters: Mapping[str, inspect.Parameter] = parameters_of(model)
        self.limits = Limits(self.model, self.name)
        self._pools_at_last_token = pools_at_last_token(self.model)

    @property
    def output_kind(self) -> OutputKind:
        """The columns of the output: classes, labels by themselves, or plain values."""
        return output_kind(self.model)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in their order; empty where the configuration has only numbers."""
        names = class_names(self.model)
        given = [names.get(column, "") for column in range(len(names))]
        return () if given == [f"LABEL_{column}" for column in range(len(names))] else tuple(given)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The numbers of columns that the model's heads may have: of its classes, and of its vocabulary."""
        return head_sizes(self.model)

    def forward(self, function: Any, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> Any:
        """Call the model.

        Args:
            function: The model with its wrappers.
            keywords: The arguments of the forward, from :meth:`by_keyword`.
            unmasked: By keyword, the masked inputs as they are without a mask, as far as they are known.

        Returns:
            What the model returned.

        Raises:
            ValueError: The model has no weights for these arguments.
        """
        check_padding_side(self.model, keywords, unmasked)
        keywords = with_position_ids(self.model, keywords, unmasked)
        if self._pools_at_last_token:
            keywords, padding = fixed_pooling_position(self.model, keywords, unmasked)
            function = with_padding_token(function, self.model, padding)
        try:
            returned = function(**keywords)
        except ValueError as error:
            clearer = self.limits.explain(error, keywords) or self._without_decoder(error, keywords)
            if clearer is None:
                raise
            raise clearer from error
        return without_answers_in_padding(returned, keywords, unmasked)

    def _without_decoder(self, error: ValueError, keywords: Mapping[str, Any]) -> ValueError | None:
        """Return a clearer error where an encoder-decoder model got nothing for its decoder."""
        given = [keywords.get(name) for name in ("decoder_input_ids", "decoder_inputs_embeds", "labels")]
        if not getattr(self.model.config, "is_encoder_decoder", False) or any(x is not None for x in given):
            return None
        return ValueError(
            f"{type(self.model).__name__} has a decoder, and got no tokens for it ({error}). Give decoder_input_ids, "
            "in the inputs or in additional_forward_args"
        )

    def token_places(self, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return places at which the head may read; see the function of this name in ``head``."""
        return token_places(self.model, keywords, unmasked)

    def by_keyword(self, positional: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments of a forward by keyword, without a cache.

        Args:
            positional: The main input, and what follows it in the model's own order.
            keywords: All others.

        Returns:
            The arguments of the forward.

        Raises:
            TypeError: The arguments do not fit the model's forward.
        """
        keywords = dict(keywords)
        names = [name for name, p in self.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._refuse_misspelt(keywords, names)
        if positional:
            main = self._main_input(positional[0])
            if main in keywords:
                raise TypeError(f"additional_forward_args must not have {main}, which the inputs are: leave it out")
            keywords[main] = positional[0]
        if len(positional) > max(1, len(names)):
            raise TypeError(
                f"{self.name} takes {len(names)} arguments by position, and would get {len(positional)}: give "
                'additional_forward_args as a mapping, such as {"attention_mask": mask}'
            )
        for name, value in zip(names[1:], positional[1:], strict=False):
            self._refuse_cache(name, value)
            if name in keywords:
                raise TypeError(f"{self.name} would get {name} twice, by position and by keyword: leave one out")
            keywords[name] = value
        config = self.model.config
        if "use_cache" in self.parameters and getattr(config, "use_cache", False):
            keywords.setdefault("use_cache", False)
        if getattr(config, "return_dict", True) is False:
            keywords.setdefault("return_dict", True)
        return keywords

    def _refuse_misspelt(self, keywords: Mapping[str, Any], names: list[str]) -> None:
        """Refuse a keyword close to a parameter's name, which the forward's ``**kwargs`` would swallow."""
        for name in keywords.keys() - self.parameters.keys():
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
            if close:
                raise TypeError(f"{self.name} has no argument {name!r}: did you mean {close[0]!r}?")

    def _refuse_cache(self, name: str, value: Any) -> None:
        """Refuse a tensor in the place of a cache, which is GPT-2's second positional argument."""
        if isinstance(value, Tensor) and name == cache_argument(self.parameters):
            raise TypeError(
                f"the second positional argument of {self.name} is {name}, its cache, and it would get "
                f'{kind_of(value)}: give additional_forward_args={{"attention_mask": mask}}, by keyword'
            )

    def _main_input(self, x: Tensor) -> str:
        """Return the keyword of the main input: of a text model, floating inputs are pixels or embeddings."""
        if x.is_floating_point() and x.dim() == _DIMS_OF_IMAGES and "pixel_values" in self.parameters:
            return "pixel_values"  # of a model with a text tower, such as CLIP
        embeds = x.is_floating_point() and takes_token_ids(self.model)
        if embeds and x.dim() == _DIMS_OF_IDS:
            raise TypeError(
                f"the inputs of {self.name} must be token ids, integers [B, T], or embeddings [B, T, D]; got "
                f"{kind_of(x)}. Give ids.long()"
            )
        return "inputs_embeds" if embeds else str(self.model.main_input_name)
