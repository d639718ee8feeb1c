"""Players of a prompt: words of a text or of a chat's messages, or the features of a Captum ``InterpretableInput``.

A chat's template is background: its tokens are there in every masked copy. Whoever wants only some words as players
says which; what is not a player stays visible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch

from captum_lkn.players.chats import chat_players
from captum_lkn.players.interpretable import template_players, token_players
from captum_lkn.players.players import Players
from captum_lkn.players.text import text_players
from captum_lkn.players.tokens import check_tokenizer

if TYPE_CHECKING:
    from captum.attr import InterpretableInput
    from transformers import PreTrainedTokenizerBase

__all__ = ["prompt_players"]

Messages: TypeAlias = Sequence[Mapping[str, str]]


def prompt_players(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Messages | InterpretableInput,
    *,
    words: Collection[str | int] | None = None,
    stop_words: Iterable[str] | bool | None = None,
    punctuation: bool = True,
    baseline: str | int | None = None,
    roles: Collection[str] = ("user",),
    chat_template: str | None = None,
    max_length: int | None = None,
    device: torch.device | str | None = None,
) -> Players:
    """Make players of a prompt for a causal language model.

    Tokenizers of causal models have no mask token: name with `baseline` what should stand in for an absent word.

    Args:
        tokenizer: The model's tokenizer.
        prompt: The text that the model continues. A str: its words are players, as in
            :func:`~captum_lkn.players.text.text_players`. A list of messages ``{"role": ..., "content": ...}``: the
            words of the messages of the given `roles`; the template ends where the assistant answers. Captum's
            ``TextTokenInput``: its tokens, but for its `skip_tokens`. Captum's ``TextTemplateInput``: its values,
            which its baselines replace, word for word; where a baseline is shorter, the text closes up.
        words: Only these words are players; by name, or by number among the words of the given `roles`.
        stop_words: Words that are not players; True for :data:`~captum_lkn.players.choice.STOP_WORDS`.
        punctuation: Whether punctuation is a player.
        baseline: The token that replaces those of absent words. None: the mask token, else with a warning another.
        roles: The roles whose messages can be masked.
        chat_template: For a tokenizer without one, or in place of its own.
        max_length: The most tokens that the prompt may have. None: the tokenizer's `model_max_length`.
        device: The device of the tensors.

    Returns:
        Players of one prompt; what is masked is ``input_ids``, of a ``TextTemplateInput`` also ``attention_mask``.

    Raises:
        TypeError: If something is of the wrong type.
        ValueError: As `text_players`; if the tokenizer has no chat template, no message has one of the roles, the
            template changes a message, or the values of a ``TextTemplateInput`` and the text around them share tokens.

    Example:
        >>> from captum.attr import TextTemplateInput
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> vocabulary = {"[UNK]": 0, "a": 1, "good": 2, "bad": 3, "film": 4, "is": 5}
        >>> tiny = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        >>> tiny.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny, unk_token="[UNK]")
        >>> template = TextTemplateInput("a {} film is {}", ["good", "good"], ["", "bad"])
        >>> prompt_players(tokenizer, template).masked(0, torch.tensor([[False, True], [True, False]]))
        (tensor([[1, 0, 4, 5, 2],
                [1, 2, 4, 5, 3]]), tensor([[1, 0, 1, 1, 1],
                [1, 1, 1, 1, 1]]))
    """
    from captum.attr import InterpretableInput, TextTemplateInput, TextTokenInput

    check_tokenizer(tokenizer)
    choice = {"words": words, "stop_words": stop_words, "punctuation": punctuation}
    if isinstance(prompt, InterpretableInput):
        defaults = {"words": None, "stop_words": None, "punctuation": True, "baseline": None}
        given = [name for name, value in (choice | {"baseline": baseline}).items() if value is not defaults[name]]
        if given:
            raise ValueError(f"a {type(prompt).__name__} defines its own features. Leave out {', '.join(given)}")
        if isinstance(prompt, TextTokenInput):
            return token_players(prompt, device)
        if isinstance(prompt, TextTemplateInput):
            return template_players(tokenizer, prompt, device)
        raise TypeError(f"of Captum's inputs, prompt can be a TextTokenInput or a TextTemplateInput; got {prompt!r}")
    if isinstance(prompt, str):
        text = text_players(tokenizer, prompt, **choice, baseline=baseline, max_length=max_length, device=device)  # type: ignore[arg-type]
        kept = {name: value for name, value in text.constants.items() if name == "attention_mask"}
        return replace(text, constants=kept)  # GPT-2 would add an embedding of token_type_ids
    return chat_players(
        tokenizer,
        prompt,
        choice=choice,
        baseline=baseline,
        roles=roles,
        chat_template=chat_template,
        max_length=max_length,
        device=device,
    )
