"""Players of Captum's interpretable inputs: ``TextTokenInput``, ``TextTemplateInput``, ``ImageMaskInput``, others."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import kind_of
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.players.frames import Frame
from captum_lkn.players.players import Players, players_from_mask
from captum_lkn.players.tokens import closing_ids, name_of, prompt_slice

if TYPE_CHECKING:
    from captum.attr import InterpretableInput

__all__ = ["interpretable_players", "is_interpretable", "template_players", "token_players"]


def is_interpretable(given: Any) -> bool:
    """Return whether something is an ``InterpretableInput`` of Captum."""
    from captum.attr import InterpretableInput

    return isinstance(given, InterpretableInput)


@checked()
def interpretable_players(given: InterpretableInput, tokenizer: Any = None, device: Any = "cpu") -> Players:
    """Make players of the features of Captum's ``InterpretableInput``.

    Of a ``TextTokenInput``, and of a ``TextTemplateInput`` with a tokenizer, what is masked is the token ids, as
    :func:`captum_lkn.prompt_players` makes them. Of any other, such as an ``ImageMaskInput``, it is a number for each
    feature, 1 or 0, and each forward gets what ``to_model_input`` makes of them, for all rows together: tensors
    concatenated, mappings of tensors by keyword, anything else (texts, images) as a list.

    Args:
        given: The input.
        tokenizer: The model's tokenizer, for a ``TextTemplateInput``; without one the forward gets texts.
        device: The device of the tensors.

    Returns:
        The players of one sample.

    Raises:
        TypeError: `given` is something else.
        ValueError: As :func:`captum_lkn.prompt_players`.

    Example:
        >>> from captum.attr import TextTemplateInput
        >>> from captum_lkn import AndOrInteraction
        >>> template = TextTemplateInput("{} feels {} right now", ["He", "depressed"], ["It", "neutral"])
        >>> def sadness(texts):
        ...     return torch.tensor([float("depressed" in text) * (1 + text.startswith("He")) for text in texts])
        >>> found = AndOrInteraction(sadness, score="logit", noise=0).attribute(template)
        >>> sorted(str(one) for one in found[0].top())  # equally strong
        ['He & depressed  +1.00', 'depressed  +1.00']
    """
    from captum.attr import TextTemplateInput, TextTokenInput

    if not is_interpretable(given):
        raise TypeError(f"given must be an InterpretableInput of Captum; got {kind_of(given)}")
    if isinstance(given, TextTokenInput):
        return token_players(given, device)
    if isinstance(given, TextTemplateInput) and tokenizer is not None:
        return template_players(tokenizer, given, device)
    n = given.n_itp_features
    labels = list(map(str, given.values)) if len(given.values) == n else None
    players = players_from_mask(torch.ones(1, n, device=device), player_names=labels)
    return replace(
        players, description={"players": type(given).__name__, "baseline": "its own"}, decode=_Decoded(given)
    )


@dataclass(frozen=True)
class _Decoded:
    """Makes the model's inputs of present and absent features, ``[R, n]``."""

    given: Any

    def __call__(self, inputs: tuple[Tensor, ...]) -> Any:
        together = _together([self.given.to_model_input(row[None]) for row in inputs[0]])
        return together if isinstance(together, Mapping) else (together,)


def _together(parts: list[Any]) -> Any:
    """Return the inputs of several rows as those of one forward."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _together([part[name] for part in parts]) for name in first}
    if not isinstance(first, Tensor):
        return parts
    shapes = sorted({tuple(part.shape[1:]) for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"to_model_input must return tensors of one shape for all masks; got {shapes[0]} and {shapes[-1]} behind "
            "the batch. Give prompt_players(tokenizer, ...) for texts of several lengths"
        )
    return torch.cat(parts)


def token_players(prompt: Any, device: Any) -> Players:
    """Make a player of each token of a ``TextTokenInput`` that it does not skip; an end token is left out."""
    tokenizer = prompt.tokenizer
    end = _end_of(tokenizer, prompt.inp_tensor[0].tolist())
    ids = prompt.inp_tensor[:, :end].to(device)
    shown = torch.ones_like(ids, dtype=torch.bool) if prompt.itp_mask is None else prompt.itp_mask[:, :end].to(device)
    owners = torch.where(shown, shown.cumsum(1) - 1, BACKGROUND)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = list(map(str, prompt.values))[: int(shown.sum())]
    players = players_from_mask(inputs, prompt.baselines, owners, [labels])
    (baseline,) = tokenizer.convert_ids_to_tokens([prompt.baselines])
    return replace(players, description={"players": "tokens", "baseline": baseline, "tokenizer": name_of(tokenizer)})


def _end_of(tokenizer: Any, ids: list[int]) -> int:
    """Return the number of tokens of a prompt before the end tokens behind it."""
    end = len(ids)
    while end > 1 and ids[end - 1] in closing_ids(tokenizer):
        end -= 1
    return end


def template_players(tokenizer: Any, prompt: Any, device: Any) -> Players:
    """Make a player of each feature of a ``TextTemplateInput``.

    Values and baselines lie side by side; the shorter one is padded with tokens that the attention mask hides. Random
    baselines are drawn once.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} returns no offsets, which templates need. Give a fast tokenizer")
    n, features = prompt.n_itp_features, prompt.formatted_mask if prompt.mask else range(prompt.n_features)
    keys = prompt.dict_keys

    def render(*values: str) -> str:
        return str(prompt.format_fn(**dict(zip(keys, values, strict=True))) if keys else prompt.format_fn(*values))

    baselines = prompt.baselines() if callable(prompt.baselines) else prompt.baselines
    baselines = [baselines[key] for key in keys] if isinstance(baselines, dict) else baselines
    frame = Frame.of(render, prompt.n_features)
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
        description={"players": "template", "baseline": " | ".join(baselines), "tokenizer": name_of(tokenizer)},
    )
    _check_rendering(tokenizer, render, [prompt.values, baselines], features, players)
    return players


def _tokens_by_part(tokenizer: Any, frame: Frame, values: Sequence[str]) -> list[list[int]]:
    """Return the tokens of a rendered template, by the piece or value that holds their last character."""
    parts = frame.parts(values)
    for i in range(1, len(parts), 2):  # the space before a word belongs to its token
        bare = parts[i - 1].rstrip()
        parts[i - 1], parts[i] = bare, parts[i - 1][len(bare) :] + parts[i]
    ends = list(itertools.accumulate(map(len, parts)))
    encoding = _encoded(tokenizer, "".join(parts))
    tokens: list[list[int]] = [[] for _ in parts]
    place = 0
    for i in range(len(encoding["input_ids"][0]))[prompt_slice(tokenizer, encoding)]:
        _, end = encoding["offset_mapping"][0][i]
        # A special token has no characters: it stays with the token before it. Neither has a space whose offsets are
        # trimmed, but they tell where it lies.
        if not encoding["special_tokens_mask"][0][i]:
            place = bisect_left(ends, max(end, 1))
        elif any(tokens):
            place = len(parts) - 1
        tokens[place].append(encoding["input_ids"][0][i])
    return tokens


def _encoded(tokenizer: Any, text: str) -> Any:
    return tokenizer([text], return_special_tokens_mask=True, return_offsets_mapping=True)


def _check_rendering(
    tokenizer: Any,
    render: Callable[..., str],
    sides: Sequence[Sequence[str]],
    features: Sequence[int],
    players: Players,
) -> None:
    """Check that single values present or absent give the tokens of the text that Captum would render."""
    n = players.sizes[0]
    some = torch.cat(
        [
            torch.eye(n, device="cpu"),
            1 - torch.eye(n, device="cpu"),
            torch.ones(1, n, device="cpu"),
            torch.zeros(1, n, device="cpu"),
        ]
    ).bool()
    ids, seen = players.masked(0, some)
    for mask, row, shown in zip(some.tolist(), ids, seen, strict=True):
        text = render(*(pair[not mask[feature]] for *pair, feature in zip(*sides, features, strict=True)))
        encoding = _encoded(tokenizer, text)
        if encoding["input_ids"][0][prompt_slice(tokenizer, encoding)] != row[shown.bool()].tolist():
            raise ValueError(
                f"the values of the template and the text around them share tokens, as in {text!r}. Separate them by "
                "spaces, or give longer values"
            )
