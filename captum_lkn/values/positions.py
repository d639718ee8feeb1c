"""Check that a target at a token is at one of the text: what a model returns for padding is nobody's answer."""

from __future__ import annotations

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.facts import is_encoder_decoder
from captum_lkn.models.model import Model
from captum_lkn.models.padding import attention_mask
from captum_lkn.outputs.targets import Target

__all__ = ["check_positions"]

_DIMS_OF_TOKENS = 2  # of an output behind the batch: tokens and classes


def check_positions(model: Model, arguments: Arguments, target: Target) -> None:
    """Check that the target of each sample is not at padding, by the attention mask.

    It is checked for models of `transformers` whose outputs are of the tokens that the mask is of.

    Args:
        model: The model.
        arguments: The unmasked inputs of all samples, and all else the forward gets.
        target: The target of each sample.

    Raises:
        ValueError: A target is at padding.
    """
    if len(target.shape) != _DIMS_OF_TOKENS or not model.is_hugging_face or is_encoder_decoder(model.inner):
        return
    positions = target.positions[:, 0].cpu()
    real = attention_mask(model.forward_func, *model.arranged(arguments), len(positions))
    if real is None or real.shape != (len(positions), target.position_sizes[0]):
        return
    for sample, (position, tokens) in enumerate(zip(positions.tolist(), real.cpu(), strict=True)):
        if not bool(tokens[position]):
            places = tokens.nonzero()[:, 0].tolist()
            raise ValueError(
                f"target must be at a token of the text; got position {position} for sample {sample}, which is padding "
                f"there: its tokens are at {places[0]} to {places[-1]}. Give a list of tuples, one a sample"
            )
