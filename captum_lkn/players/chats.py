"""Chats: their text as the model reads it, and where their messages lie in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from captum_lkn._common.messages import kind_of
from captum_lkn.players.frames import Frame
from captum_lkn.players.units import Region

__all__ = ["rendered_chat"]


_STRIPPED: tuple[Callable[[str], str], ...] = (str, str.strip, str.rstrip, str.lstrip)  # what templates do to messages


def rendered_chat(
    tokenizer: Any, messages: Any, roles: Collection[str], chat_template: str | None
) -> tuple[str, list[Region], tuple[str, ...]]:
    """Render a chat as the model reads it, and find the messages of some roles in it.

    Args:
        tokenizer: The model's tokenizer.
        messages: Mappings ``{"role": ..., "content": ...}``.
        roles: The roles whose messages can be masked.
        chat_template: For a tokenizer without one, or in place of its own.

    Returns:
        The text, up to the point where the assistant answers; where the messages lie in it, without white space that
        the template strips; and the messages as they were given.

    Raises:
        TypeError: If a message is not one.
        ValueError: If there is no chat template or no message of the roles, or the template changes a message.
    """
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

    contents = tuple(checked[i]["content"] for i in places)
    text, frame = render(*contents), Frame.of(render, len(places))
    for strip in _STRIPPED:
        parts = frame.parts(list(map(strip, contents)))
        if "".join(parts) == text:
            ends = list(itertools.accumulate(map(len, parts)))
            return text, [Region(0, *span) for span in zip(ends[::2], ends[1::2], strict=False)], contents
    raise ValueError(f"the chat template changes the messages; it renders {text!r}. Give the prompt as text")


def _messages(messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, Sequence) or not messages:
        raise TypeError(f"prompt must be a text, a list of messages, or an input of Captum; got {kind_of(messages)}")
    if all(isinstance(message, str) for message in messages):
        raise TypeError("prompt must be one prompt; got a list of texts. Make players of each, and give a list of them")
    for i, message in enumerate(messages):
        is_text = isinstance(message, Mapping) and {"role", "content"} <= set(message)
        if not is_text or not isinstance(message["content"], str):
            raise TypeError(f'message {i} must be {{"role": "user", "content": "a text"}}; got {message!r}')
    return [dict(message) for message in messages]
