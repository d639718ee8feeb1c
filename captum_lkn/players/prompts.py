"""Players of a prompt: words of a text or of a chat's messages, or the features of a Captum ``InterpretableInput``.

A chat's template is background: its tokens are there in every masked copy. Whoever wants only some words as players
says which; what is not a player stays visible.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from captum_lkn._common.messages import kind_of
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.players.players import Players, players_from_mask
from captum_lkn.players.text import Word, absent_token, check_tokenizer, choose_words, text_players, words_of

if TYPE_CHECKING:
    from captum.attr import InterpretableInput
    from transformers import PreTrainedTokenizerBase

__all__ = ["prompt_players"]

Messages: TypeAlias = Sequence[Mapping[str, str]]

_MARK = "\ue000{}\ue001"  # private characters of Unicode: where a value goes, in a text that is rendered to find out


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
        prompt: What the model goes on from. A text: its words are players, as in
            :func:`~captum_lkn.players.text.text_players`. A list of messages ``{"role": ..., "content": ...}``: the
            words of the messages of the given `roles`; the template ends where the assistant answers. Captum's
            ``TextTokenInput``: its tokens, but for its `skip_tokens`. Captum's ``TextTemplateInput``: its values,
            which its baselines replace, word for word; where a baseline is shorter, the text closes up.
        words: Only these words are players; by name, or by number among the words of the given `roles`.
        stop_words: Words that are not players; True for :data:`~captum_lkn.players.text.STOP_WORDS`.
        punctuation: Whether marks of punctuation are players.
        baseline: The token that replaces those of absent words. None: the mask token, else with a warning another.
        roles: Whose messages can be masked.
        chat_template: For a tokenizer without one, or in place of its own.
        max_length: The most tokens that the prompt may have. None: the tokenizer's `model_max_length`.
        device: Where the tensors go.

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
            raise ValueError(f"a {type(prompt).__name__} says what its features are: leave out {', '.join(given)}")
        if isinstance(prompt, TextTokenInput):
            return _of_tokens(prompt, device)
        if isinstance(prompt, TextTemplateInput):
            return _of_template(tokenizer, prompt, device)
        raise TypeError(f"of Captum's inputs, prompt can be a TextTokenInput or a TextTemplateInput; got {prompt!r}")
    if isinstance(prompt, str):
        text = text_players(tokenizer, prompt, **choice, baseline=baseline, max_length=max_length, device=device)  # type: ignore[arg-type]
        kept = {name: value for name, value in text.constants.items() if name == "attention_mask"}
        return replace(text, constants=kept)  # GPT-2 would add an embedding of token_type_ids
    rendered, spans = _rendered(tokenizer, prompt, roles, chat_template)
    return _words_of_spans(tokenizer, rendered, spans, choice, baseline, max_length, device)


class _Frame(NamedTuple):
    """A text around values: the pieces between them, and the values' order in it."""

    pieces: list[str]
    order: list[int]

    @classmethod
    def of(cls, render: Callable[..., str], count: int) -> _Frame:
        """Find the frame of a function of `count` values by rendering marks."""
        marks = [_MARK.format(i) for i in range(count)]
        text = render(*marks)
        odd = [i for i, mark in enumerate(marks) if text.count(mark) != 1]
        if odd:
            raise ValueError(
                f"the template shows part {odd[0]} {text.count(marks[odd[0]])} times: it must show each once"
            )
        order = sorted(range(count), key=lambda i: text.index(marks[i]))
        pieces = []
        for i in order:
            before, text = text.split(marks[i])
            pieces.append(before)
        return cls([*pieces, text], order)

    def parts(self, values: Sequence[str]) -> list[str]:
        """Pieces and values by turns, as they come in the text."""
        return [*itertools.chain(*zip(self.pieces, (values[i] for i in self.order), strict=False)), self.pieces[-1]]


# ---------------------------------------------------------------- chats


def _rendered(
    tokenizer: Any, messages: Any, roles: Collection[str], chat_template: str | None
) -> tuple[str, list[tuple[int, int]]]:
    """A chat as the model reads it, and where in it the messages of the given roles lie."""
    said = _messages(messages)
    if chat_template is None and not getattr(tokenizer, "chat_template", None):
        raise ValueError("the tokenizer has no chat template: name one with chat_template=, or give the prompt as text")
    places = [i for i, message in enumerate(said) if message["role"] in roles]
    if not places:
        raise ValueError(f"no message has a role of {list(roles)}; there are {[m['role'] for m in said]}")

    def render(*contents: str) -> str:
        filled = dict(zip(places, contents, strict=True))
        chat = [message | {"content": filled.get(i, message["content"])} for i, message in enumerate(said)]
        text = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, chat_template=chat_template
        )
        return str(text)

    contents = [said[i]["content"] for i in places]
    text, frame = render(*contents), _Frame.of(render, len(places))
    for written in (contents, [content.strip() for content in contents]):  # many templates strip
        parts = frame.parts(written)
        if "".join(parts) == text:
            ends = list(itertools.accumulate(map(len, parts)))
            return text, list(zip(ends[::2], ends[1::2], strict=False))
    raise ValueError(f"the chat template changes the messages; it shows {text!r}: give the prompt as text")


def _messages(messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, Sequence) or not messages:
        raise TypeError(f"prompt must be a text, a list of messages, or an input of Captum; got {kind_of(messages)}")
    for i, message in enumerate(messages):
        is_text = isinstance(message, Mapping) and {"role", "content"} <= set(message)
        if not is_text or not isinstance(message["content"], str):
            raise TypeError(f'message {i} must be {{"role": "user", "content": "a text"}}; got {message!r}')
    return [dict(message) for message in messages]


def _words_of_spans(
    tokenizer: Any,
    text: str,
    spans: list[tuple[int, int]],
    choice: dict[str, Any],
    baseline: Any,
    max_length: int | None,
    device: Any,
) -> Players:
    """Players of the words inside some parts of a text that brings its own special tokens."""
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} cannot tell where a message lies: give a fast tokenizer")
    encoding = tokenizer([text], add_special_tokens=False, return_special_tokens_mask=True, return_offsets_mapping=True)
    length, limit = len(encoding["input_ids"][0]), max_length or tokenizer.model_max_length
    if length > limit:
        raise ValueError(f"the chat has {length} tokens, the limit is {limit}: shorten it, or raise max_length=")
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
    description = {"players": "words", "texts": [text], "baseline": token.name, "tokenizer": _name(tokenizer)}
    return replace(players, description=description)


# ---------------------------------------------------------------- Captum's inputs


def _of_tokens(prompt: Any, device: Any) -> Players:
    ids = prompt.inp_tensor.to(device)
    shown = torch.ones_like(ids, dtype=torch.bool) if prompt.itp_mask is None else prompt.itp_mask.to(device)
    owners = torch.where(shown, shown.cumsum(1) - 1, BACKGROUND)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    players = players_from_mask(inputs, prompt.baselines, owners, [list(map(str, prompt.values))])
    (baseline,) = prompt.tokenizer.convert_ids_to_tokens([prompt.baselines])
    return replace(
        players, description={"players": "tokens", "baseline": baseline, "tokenizer": _name(prompt.tokenizer)}
    )


def _of_template(tokenizer: Any, prompt: Any, device: Any) -> Players:
    """Values and baselines side by side, the shorter one filled up with tokens that the attention mask hides."""
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} cannot tell where a value lies: give a fast tokenizer")
    n, features = prompt.n_itp_features, prompt.formatted_mask if prompt.mask else range(prompt.n_features)
    keys = prompt.dict_keys

    def render(*values: str) -> str:
        return str(prompt.format_fn(**dict(zip(keys, values, strict=True))) if keys else prompt.format_fn(*values))

    baselines = prompt.baselines() if callable(prompt.baselines) else prompt.baselines
    baselines = [baselines[key] for key in keys] if isinstance(baselines, dict) else baselines
    frame = _Frame.of(render, prompt.n_features)
    present, absent = (_tokens_by_part(tokenizer, frame, values) for values in (prompt.values, baselines))
    owner_of = [BACKGROUND] * len(present)
    owner_of[1::2] = [features[i] for i in frame.order]
    columns = [
        (owner, *pair)
        for owner, *sides in zip(owner_of, present, absent, strict=True)
        for pair in itertools.zip_longest(*sides)
    ]
    owners = torch.tensor([[owner for owner, _, _ in columns]], device=device)
    rows = [[column[side] for column in columns] for side in (1, 2)]
    ids = [torch.tensor([[0 if token is None else token for token in row]], device=device) for row in rows]
    seen = [torch.tensor([[int(token is not None) for token in row]], device=device) for row in rows]
    labels = [" ".join(v.strip() for v, f in zip(prompt.values, features, strict=True) if f == i) for i in range(n)]
    players = Players(
        inputs=(ids[0], seen[0]),
        baselines=(ids[1], seen[1]),
        owners=(owners, owners),
        labels=(tuple(labels),),
        names=("input_ids", "attention_mask"),
        is_tuple=True,
        description={"players": "template", "baseline": " | ".join(baselines), "tokenizer": _name(tokenizer)},
    )
    _check_rendering(tokenizer, prompt, players)
    return players


def _tokens_by_part(tokenizer: Any, frame: _Frame, values: Sequence[str]) -> list[list[int]]:
    """The tokens of a rendered template, by the piece or value that their last character lies in."""
    parts = frame.parts(values)
    for i in range(1, len(parts), 2):  # the space before a word belongs to its token
        bare = parts[i - 1].rstrip()
        parts[i - 1], parts[i] = bare, parts[i - 1][len(bare) :] + parts[i]
    ends = list(itertools.accumulate(map(len, parts)))
    encoding = tokenizer("".join(parts), return_offsets_mapping=True)
    tokens: list[list[int]] = [[] for _ in parts]
    place = 0
    for token, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        if end > start:  # a special token lies nowhere: it stays with the token before it
            place = bisect_left(ends, end)
        elif any(tokens):
            place = len(parts) - 1
        tokens[place].append(token)
    return tokens


def _check_rendering(tokenizer: Any, prompt: Any, players: Players) -> None:
    """Whether single values present or absent give the tokens of the text that Captum would render."""
    n = prompt.n_itp_features
    some = torch.cat([torch.eye(n), 1 - torch.eye(n), torch.ones(1, n), torch.zeros(1, n)]).bool()
    ids, seen = players.masked(0, some)
    for mask, row, shown in zip(some, ids, seen, strict=True):
        text = prompt.to_model_input(mask[None].double())
        if tokenizer(text)["input_ids"] != row[shown.bool()].tolist():
            raise ValueError(
                f"the values of the template and the text around them share tokens, as in {text!r}: part them by "
                "spaces, or give longer values"
            )


def _name(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
