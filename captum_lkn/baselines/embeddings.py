"""Players of embeddings: the model is called with ``inputs_embeds``, and absent tokens get an embedding.

A token id can only be replaced by another id. An embedding can be replaced by any vector: the mean of the vocabulary
or of a data set, or a learned one (:mod:`captum_lkn.baselines.learning`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_plain, is_whole
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.facts import padding_token, position_ids_of
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players, compact
from captum_lkn.players.prepare import prepare

__all__ = ["mean_embedding", "players_as_embeddings"]

_EMBEDDED = "inputs_embeds"
_CHUNK = 8192  # tokens embedded at a time: a vocabulary may have 250,000


@checked("model")
def players_as_embeddings(
    model: nn.Module,
    players: Players,
    baseline: Tensor | str | int = "mean",
    *,
    additional_forward_args: Any = None,
) -> Players:
    """Return the same players for a model that is called with embeddings instead of token ids.

    The outputs for the embeddings of the unmasked samples are compared with those for their ids: they must agree.
    Where positions are counted from the ids (RoBERTa, MPNet: padding has none), they are passed as ``position_ids``.
    Classifiers that find the last token by its id (GPT-2, Llama) cannot find padding in embeddings: give them one text
    at a time, or pad on the left.

    Args:
        model: A Hugging Face model, or any module with ``get_input_embeddings()`` and an argument ``inputs_embeds``.
        players: Players of token ids ``[B, T]``, such as :func:`captum_lkn.text_players` makes.
        baseline: The embedding of an absent token: one vector ``[D]`` (such as :func:`mean_embedding` or
            :func:`~captum_lkn.baselines.learning.learn_baseline` find), or one a position, ``[T, D]``; ``"mean"``, the
            mean of the vocabulary; or a token id, for the embedding of that token. Unlike the id itself, it changes
            neither positions nor the place where a model finds its last token.
        additional_forward_args: Further arguments of the forward, as given to the methods; used for the comparison.

    Returns:
        Players with the inputs ``[B, T, D]``, in the dtype of the embeddings, and all else as it was. Attributions
        have that shape too.

    Raises:
        TypeError: The model cannot take embeddings, the players are not of token ids, or the baseline is of another
            kind.
        ValueError: The baseline does not fit, or the outputs for embeddings differ from those for ids.

    Warns:
        UserWarning: A model in training mode.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from captum_lkn import players_from_mask
        >>> model = BertForSequenceClassification(
        ...     BertConfig(
        ...         vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4
        ...     )
        ... )
        >>> tokens = players_from_mask({"input_ids": torch.tensor([[3, 4, 5]])}, feature_mask=torch.tensor([0, 1, 1]))
        >>> players_as_embeddings(model.eval(), tokens)
        Players of 1 sample; masked: inputs_embeds float32 [1, 3, 4]
          sample 0, 2 players: 0 | 1
    """
    caller, embed = Model(model), _embedding(model)
    ids = _token_ids(players)
    _, arguments = prepare(players, None, additional_forward_args, None, None)
    with caller.session():
        vectors = _embedded(embed, ids)
        absent, name = _absent(baseline, embed, vectors)
        found = replace(
            players,
            inputs=(vectors,),
            baselines=(absent.to(vectors).expand(vectors.shape),),
            owners=(compact(players.owners[0]).unsqueeze(-1).expand(vectors.shape),),
            names=None if players.names is None and caller.is_hugging_face else (_EMBEDDED,),
            description={**players.description, "baseline": name},
        )
        constants = _needed(caller, arguments, found)
    return replace(found, constants={**players.constants, **constants})


@checked("model")
def mean_embedding(model: nn.Module, data: Mapping[str, Any] | Iterable[Any]) -> Tensor:
    """Compute the mean embedding of the tokens of a data set.

    Args:
        model: A Hugging Face model, or any module with ``get_input_embeddings()``.
        data: An encoding (a mapping with ``input_ids``, as a tokenizer returns it), or an iterable of them, such as a
            data loader; pairs of an encoding and labels will do. Padding (``attention_mask`` 0) does not count, nor
            do special tokens where there is a ``special_tokens_mask``.

    Returns:
        ``[D]`` in the dtype and on the device of the embeddings; summed up in float64.

    Raises:
        TypeError: The model has no input embeddings, the data is something else, or ids are not integers.
        ValueError: There is no token, or an id outside the vocabulary.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(
        ...     BertConfig(
        ...         vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4
        ...     )
        ... )
        >>> batch = {"input_ids": [[3, 5, 0]], "attention_mask": [[1, 1, 0]]}
        >>> vectors = model.get_input_embeddings().weight
        >>> torch.allclose(mean_embedding(model, batch), (vectors[3] + vectors[5]) / 2)
        True
    """
    embed = _embedding(model)
    parts = [_real_tokens(entry) for entry in ([data] if isinstance(data, Mapping) else _entries(data))]
    ids = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64, device="cpu")
    if not len(ids):
        raise ValueError("data has no token to take the mean of: give encodings with input_ids")
    tokens, counts = torch.unique(ids, return_counts=True)
    with torch.no_grad():
        return _weighted_mean(embed, tokens, counts)


def _embedding(model: Any) -> nn.Module:
    find = getattr(Model(model).inner, "get_input_embeddings", None)
    embed = find() if callable(find) else None
    if not isinstance(embed, nn.Module):
        raise TypeError(
            f"model must have get_input_embeddings(), as Hugging Face models have; got {kind_of(model)}: make players "
            "of the embeddings themselves with players_from_mask"
        )
    return embed


def _token_ids(players: Any) -> Tensor:
    if not isinstance(players, Players):
        raise TypeError(f"players must be Players; got {kind_of(players)}: make them with text_players")
    if "input_ids" in players.constants:
        raise TypeError(
            f"players must be of token ids; theirs are removed by the {', '.join(players.names or ())}: make them "
            "without removal=True"
        )
    ids = players.inputs[0]
    if len(players.inputs) != 1 or ids.dim() != 2 or ids.is_floating_point():
        kinds = ", ".join(map(kind_of, players.inputs))
        raise TypeError(f"players must be of one tensor of token ids [B, T]; theirs are of {kinds}")
    return ids


def _embedded(embed: nn.Module, ids: Tensor) -> Tensor:
    """Return embeddings of token ids, on the ids' device and without history."""
    home = next((p.device for p in embed.parameters()), ids.device)
    vectors: Tensor = embed(ids.to(home))
    return vectors.detach().to(ids.device)


def _absent(baseline: Any, embed: nn.Module, vectors: Tensor) -> tuple[Tensor, str]:
    """Return the embedding of an absent token, ``[D]`` or ``[T, D]``, and its name for provenance."""
    length, width = vectors.shape[1:]
    if isinstance(baseline, str):
        if baseline != "mean":
            raise ValueError(f'baseline must be "mean", a token id or a tensor [D] or [T, D]; got {baseline!r}')
        tokens = torch.arange(_vocabulary(embed), device="cpu")
        return _weighted_mean(embed, tokens, torch.ones_like(tokens)), "mean embedding of the vocabulary"
    if is_whole(baseline):
        token = int(baseline)
        if not 0 <= token < _vocabulary(embed):
            raise ValueError(f"baseline {token} is not a token id: give one from 0 to {_vocabulary(embed) - 1}")
        return _embedded(embed, torch.tensor(token, device="cpu")), f"embedding of token {token}"
    if not isinstance(baseline, Tensor) or not baseline.is_floating_point():
        raise TypeError(
            f'baseline must be "mean", a token id or a floating tensor [D] or [T, D]; got {kind_of(baseline)}'
        )
    check_plain("baseline", baseline)
    if baseline.shape not in ((width,), (length, width)):
        raise ValueError(
            f"baseline has shape {shape_of(baseline)}: give one vector [{width}], or one a position, "
            f"[{length}, {width}]"
        )
    if not bool(baseline.isfinite().all()):
        raise ValueError(f"baseline {kind_of(baseline)} holds inf or nan: give a finite vector")
    return baseline.detach(), f"embedding {shape_of(baseline)}"


def _vocabulary(embed: Any) -> int:
    count = getattr(embed, "num_embeddings", None)
    if not isinstance(count, int):
        raise TypeError(f"{kind_of(embed)} has no number of tokens, num_embeddings: give a tensor [D] for the baseline")
    return count


def _weighted_mean(embed: nn.Module, tokens: Tensor, counts: Tensor) -> Tensor:
    """Return the weighted mean of the tokens' embeddings, with their counts as weights."""
    limit = _vocabulary(embed)
    if int(tokens.min()) < 0 or int(tokens.max()) >= limit:
        raise ValueError(
            f"data has token ids from {int(tokens.min())} to {int(tokens.max())}, the model embeds 0 to {limit - 1}: "
            "tokenize with the model's own tokenizer"
        )
    parts = zip(torch.split(tokens, _CHUNK), torch.split(counts, _CHUNK), strict=True)
    sums = [(_embedded(embed, ids).double() * weights[:, None]).sum(0) for ids, weights in parts]
    home = next(iter(embed.parameters()))
    return (torch.stack(sums).sum(0) / counts.sum()).to(home)


def _needed(caller: Model, arguments: Arguments, players: Players) -> dict[str, Tensor]:
    """Return the further keyword arguments with which the model has the same outputs for embeddings as for ids."""
    (ids,) = arguments.inputs
    arguments = arguments.rows(torch.arange(len(ids), device="cpu"), len(ids))
    embedded = replace(arguments, inputs=players.inputs, names=players.names)
    expected = caller(arguments).tensor
    candidates: list[dict[str, Tensor]] = [{}]
    pad = padding_token(caller.inner)
    if pad is not None and "position_ids" in caller.parameters and "position_ids" not in arguments.keywords:
        candidates.append({"position_ids": position_ids_of(ids, pad)})
    differences = []
    for candidate in candidates:
        try:
            output = caller(replace(embedded, keywords={**arguments.keywords, **candidate})).tensor
        except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
            raise ValueError(f"{caller.name} cannot be called with {_EMBEDDED}: {error}") from error
        differences.append(float((output - expected).abs().max()) if output.shape == expected.shape else torch.inf)
        # Equal to rounding: the same kernels ran, but attention may take another path where it is told positions.
        eps = torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0
        if differences[-1] <= min(100 * eps, 0.02) * float(expected.abs().max()):
            return candidate
    raise ValueError(
        f"the outputs of {caller.name} for the embeddings of the tokens differ from those for their ids by up to "
        f"{min(differences):.3g}. It reads more from the ids, such as where the padding begins. Give one text "
        'at a time, pad on the left (tokenizer.padding_side = "left"), or leave the players as tokens'
    )


def _entries(data: Any) -> Iterator[Any]:
    if not isinstance(data, Iterable) or isinstance(data, (str, Tensor)):
        raise TypeError(f"data must be an encoding or an iterable of encodings; got {kind_of(data)}")
    for entry in data:
        yield entry[0] if isinstance(entry, (tuple, list)) and entry else entry


def _real_tokens(entry: Any) -> Tensor:
    """Return the ids of an encoding that are neither padding nor special, int64 ``[K]`` on the CPU."""
    if not isinstance(entry, Mapping) or "input_ids" not in entry:
        raise TypeError(f"data holds {kind_of(entry)}: give mappings with input_ids, as tokenizers return")
    ids = torch.as_tensor(entry["input_ids"], device="cpu")
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"input_ids must hold integers; got {kind_of(ids)}")
    real = _marks(entry, "attention_mask", ids, default=True)
    special = _marks(entry, "special_tokens_mask", ids, default=False)
    return ids[real & ~special].long()


def _marks(entry: Mapping[str, Any], name: str, ids: Tensor, *, default: bool) -> Tensor:
    """Return one of an encoding's masks, bool in the shape of its ids."""
    marks = torch.as_tensor(entry.get(name, torch.full_like(ids, default)), device="cpu").bool()
    if marks.shape != ids.shape:
        raise ValueError(f"{name} must have the shape of input_ids, {shape_of(ids)}; got {shape_of(marks)}")
    return marks
