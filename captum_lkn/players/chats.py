"""Players of a chat: words of its messages; the tokens of the chat template are background."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from captum_lkn._common.messages import kind_of
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.players.choice import choose_words
from captum_lkn.players.frames import Frame
from captum_lkn.players.players import Players, players_from_mask
from captum_lkn.players.tokens import absent_token, name_of
from captum_lkn.players.words import Word, words_of

__all__ = ["chat_players"]


def _rendered(
    tokenizer: Any, messages: Any, roles: Collection[str], chat_template: str | None
) -> tuple[str, list[tuple[int, int]]]:
    """Return a chat as the model reads it, and the spans of the messages of the given roles."""
    checked = _messages(messages)
    if chat_template is None and not getattr(tokenizer, "chat_template", None):
        raise ValueError("the tokenizer has no chat template. Give one with chat_template=, or give the prompt as text")
    places = [i for i, message in enumerate(checked) if message["role"] in roles]
    if not places:
        known = [message["role"] for message in checked]
        raise ValueError(f"roles must name a role of the messages; got {list(roles)}. The messages have {known}")

    def render(*contents: str) -> str:
        filled = dict(zip(places, contents, strict=True))
        chat = [message | {"content": filled.get(i, message["content"])} for i, message in enumerate(checked)]
        text = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, chat_template=chat_template
        )
        return str(text)

    contents = [checked[i]["content"] for i in places]
    text, frame = render(*contents), Frame.of(render, len(places))
    for written in (contents, [content.strip() for content in contents]):  # many templates strip
        parts = frame.parts(written)
        if "".join(parts) == text:
            ends = list(itertools.accumulate(map(len, parts)))
            return text, list(zip(ends[::2], ends[1::2], strict=False))
    raise ValueError(f"the chat template changes the messages; it renders {text!r}. Give the prompt as text")


def _messages(messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, Sequence) or not messages:
        raise TypeError(f"prompt must be a text, a list of messages, or an input of Captum; got {kind_of(messages)}")
    for i, message in enumerate(messages):
        is_text = isinstance(message, Mapping) and {"role", "content"} <= set(message)
        if not is_text or not isinstance(message["content"], str):
            raise TypeError(f'message {i} must be {{"role": "user", "content": "a text"}}; got {message!r}')
    return [dict(message) for message in messages]


def chat_players(
    tokenizer: Any,
    messages: Any,
    *,
    choice: dict[str, Any],
    baseline: Any,
    roles: Collection[str],
    chat_template: str | None,
    max_length: int | None,
    device: Any,
) -> Players:
    """Make players of the words of some messages of a chat; see :func:`~captum_lkn.players.prompts.prompt_players`.

    Args:
        tokenizer: The model's tokenizer.
        messages: Mappings ``{"role": ..., "content": ...}``.
        choice: Keyword arguments of :func:`~captum_lkn.players.choice.choose_words`.
        baseline: The token that replaces those of absent words.
        roles: The roles whose messages can be masked.
        chat_template: For a tokenizer without one, or in place of its own.
        max_length: The most tokens that the chat may have.
        device: The device of the tensors.

    Returns:
        Players of one prompt.

    Raises:
        TypeError: If a message is not one.
        ValueError: If there is no chat template or no message of the roles, or the template changes a message.
    """
    text, spans = _rendered(tokenizer, messages, roles, chat_template)
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} returns no offsets, which chats need. Give a fast tokenizer")
    encoding = tokenizer([text], add_special_tokens=False, return_special_tokens_mask=True, return_offsets_mapping=True)
    length, limit = len(encoding["input_ids"][0]), max_length or tokenizer.model_max_length
    if length > limit:
        raise ValueError(f"the chat has {length} tokens, the limit is {limit}. Shorten it, or raise max_length=")
    offsets = encoding["offset_mapping"][0]
    found = [
        Word(text[max(start, offsets[inside[0]][0]) : offsets[inside[-1]][1]].strip(), inside)
        for word in words_of(tokenizer, encoding, 0, (text,))
        for start, end in spans
        # A token's space may lie before the message, not its last character.
        if (inside := [i for i in word.positions if start < offsets[i][1] <= end])
    ]
    (kept,) = choose_words([found], [tuple(text[start:end] for start, end in spans)], **choice)
    token = absent_token(tokenizer, baseline)
    ids = torch.tensor(encoding["input_ids"], device=device)
    owners = torch.full(ids.shape, BACKGROUND)
    for player, word in enumerate(kept):
        owners[0, word.positions] = player
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    players = players_from_mask(inputs, token.id, owners, [[word.label for word in kept]])
    description = {"players": "words", "texts": [text], "baseline": token.name, "tokenizer": name_of(tokenizer)}
    return replace(players, description=description)
