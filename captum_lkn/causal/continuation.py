"""Score continuations of causal language models.

:class:`Continuation` is a forward function for any method that takes one: from (masked) prompts to the log-odds of a
continuation. Its one column makes the named scores of this library say what their names say: ``"log_odds"`` is log
p/(1-p) of the whole continuation, ``"log_prob"`` its log-probability (what Captum's ``LLMAttribution`` attributes),
``"prob"`` its probability. :func:`captum_lkn.players.prompts.prompt_players` makes the players.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.checks import is_whole
from captum_lkn._common.messages import count_of
from captum_lkn.causal.all_masks import AllMasks, MasksPlan, PartOfMasks, not_a_prompt, plainly
from captum_lkn.causal.first_tokens import FirstTokens, sharing, sharing_of
from captum_lkn.causal.prefix_tree import Walk, why_not
from captum_lkn.causal.prompts import (
    causal_model,
    check_causal,
    check_others,
    checked_prompts,
    left_padded,
    next_logits,
    padding_counts,
    predicted_ids,
    prompt_of,
    visible_ids,
)
from captum_lkn.causal.scores import continuation_log_odds, lens_of_continuation
from captum_lkn.causal.tokens import continuation_ids, tokenizer_for, warn_of_joint
from captum_lkn.causal.walks import Leaves, difference, walk_over
from captum_lkn.models.hugging_face.call import HuggingFace
from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players
from captum_lkn.probes.lens import logit_lens
from captum_lkn.probes.readouts import Readout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Continuation", "continuation_log_odds"]


class Continuation:
    """The log-odds with which a causal language model continues a prompt by a given text.

    Called with prompts, it appends the continuation and returns the log-odds of all of it, ``[R, 1]``: one column, so
    that no target is needed. The prompts may be padded on either side; the continuation follows the last token that
    the attention mask shows. Tokens that a method *masks in the attention mask* are removed: those behind them move up.

    The text is tokenised as it follows a prompt, and taken literally: write the space before a word, ``" Paris"``. An
    answer in a chat begins without one. ``repr`` shows the tokens.

    Layers keep the names that they have in the model. Where the masked prompts share prefixes, those are computed once
    (see :mod:`captum_lkn.causal.prefix_tree`).

    Args:
        model: A causal model of `transformers`, as ``AutoModelForCausalLM`` gives it, or a pipeline that has one.
            ``torch.compile`` or ``DataParallel`` around it are left out.
        continuation: A text, or token ids.
        tokenizer: The model's tokenizer, or a pipeline that has one; needed for a text, else only for the text of ids
            in ``repr`` and provenance. None: that of a pipeline given as `model`.
        share_prefixes: Whether to compute shared prefixes once where it pays.

    Attributes:
        module: The causal model.
        tokens: Int64 ``[c]``, the ids of the continuation, on the CPU.
        text: The continuation as a text; None for ids without a tokenizer.

    Raises:
        TypeError: An argument of the wrong type; a text without a tokenizer.
        ValueError: The continuation is empty or not in the vocabulary; or the model is not causal, since a later token
            changes earlier logits. (The first call raises it where weights are on the meta device.)

    Warns:
        UserWarning: The model is in training mode; the check is made in evaluation mode.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        ...                      num_attention_heads=2)
        >>> says = Continuation(LlamaForCausalLM(config).eval(), [7, 4])
        >>> says
        Continuation of LlamaForCausalLM with 2 tokens: 7 | 4
        >>> with torch.no_grad():
        ...     says(torch.tensor([[1, 2, 3], [1, 2, 0]]), attention_mask=torch.tensor([[1, 1, 1], [1, 1, 0]])).shape
        torch.Size([2, 1])
    """

    @checked("continuation", "share_prefixes")
    def __init__(
        self,
        model: nn.Module,
        continuation: str | Sequence[int] | Tensor,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        share_prefixes: bool = True,
    ) -> None:
        self.module: Any = causal_model(model)
        self._called = HuggingFace(self.module)
        # Weights that hooks of `accelerate` bring from elsewhere cost a minute: they wait for the first call.
        self._alone: bool | None = None
        if not any(parameter.is_meta for parameter in self.module.parameters()):
            self._takes_prompts_alone()
        self._tokenizer = tokenizer_for(model, tokenizer)
        self.tokens = continuation_ids(self.module, continuation, self._tokenizer)
        self._given_text = continuation if isinstance(continuation, str) else None
        self.share_prefixes = share_prefixes

    @classmethod
    @checked("players", "share_prefixes")
    def predicted(
        cls,
        model: nn.Module,
        players: Players,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        tokens: int = 1,
        share_prefixes: bool = True,
    ) -> Continuation:
        """Return the continuation that the model itself predicts: its most likely next tokens, one after the other.

        Args:
            model: As above.
            players: The players of one prompt; all are present.
            tokenizer: For ``repr``.
            tokens: The number of tokens.
            share_prefixes: As above.

        Returns:
            The continuation.

        Raises:
            TypeError: As above.
            ValueError: As above; several prompts; fewer tokens than one.
        """
        if not is_whole(tokens) or tokens < 1:
            raise ValueError(f"tokens must be the number of tokens to predict, an int of at least 1; got {tokens!r}")
        if len(players) != 1:
            raise ValueError(
                f"players must be of one prompt; got {count_of(len(players), 'prompt')}, each with its own prediction"
            )
        inner, tokenizer = causal_model(model), tokenizer_for(model, tokenizer)
        ids, mask = prompt_of(players, 0)
        return cls(inner, predicted_ids(inner, ids[mask], tokens), tokenizer, share_prefixes=share_prefixes)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer, where one was given."""
        return self._tokenizer

    @property
    def text(self) -> str | None:
        """The continuation as a text; None for ids without a tokenizer."""
        if self._given_text is None and self._tokenizer is not None:
            return str(self._tokenizer.decode(self.tokens.tolist()))
        return self._given_text

    @property
    def __self__(self) -> Any:
        """The model it is bound to, as in a bound method; it names the layers."""
        return self.module

    def __repr__(self) -> str:
        ids = self.tokens.tolist()
        tokens = " | ".join(map(str, ids if self._tokenizer is None else self._tokenizer.convert_ids_to_tokens(ids)))
        return f"Continuation of {type(self.module).__name__} with {count_of(len(self.tokens), 'token')}: {tokens}"

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any) -> Tensor:
        """Return the log-odds of the continuation after each prompt.

        Args:
            input_ids: Integers ``[R, T]``.
            attention_mask: ``[R, T]``, 0 at padding; None if there is none.
            **others: What else a tokenizer returns, as far as it does not change the model's output; left out.

        Returns:
            Float64 ``[R, 1]`` (float32 on MPS).

        Raises:
            TypeError: `input_ids` is not a tensor of integers, or another argument would change the output.
            ValueError: Shapes that do not fit, or a prompt without a token.
        """
        alone = self._takes_prompts_alone()
        check_others(self._called, others)
        ids, mask = left_padded(*checked_prompts(input_ids, attention_mask))
        written = self.tokens[:-1].to(ids.device).expand(len(ids), -1)
        ids = torch.cat([ids, written], 1)
        mask = torch.cat([mask, torch.ones_like(written)], 1)
        keep = len(self.tokens)
        plain = partial(next_logits, self.module, self._called, keep=keep, alone=alone)
        shared = sharing_of(self)
        logits = plain(ids, mask) if shared is None else shared.logits(ids, mask, keep, plain)
        return continuation_log_odds(logits, self.tokens)[:, None]

    def sharing_first_tokens(self) -> AbstractContextManager[FirstTokens | None]:
        """Return a context in which calls compute the first tokens that all their prompts share once, where it pays.

        It is for calls that read the output alone: layers see these tokens in a forward of their own. The value is
        None where the model cannot do it.
        """
        if self._why_plain() is not None:
            return sharing(self, None)
        values_of = partial(continuation_log_odds, continuation=self.tokens)
        return sharing(self, FirstTokens(self.module, self._called, values_of))

    def _takes_prompts_alone(self) -> bool:
        """Check the model once; return whether padding counts for it, so that prompts are evaluated without."""
        if self._alone is None:
            check_causal(self.module, self._called)
            self._alone = padding_counts(self.module, self._called)
        return self._alone

    @checked("players", "sample")
    def describe_prompt(self, players: Players, sample: Count) -> dict[str, Any]:
        """Return a record of the continuation of one prompt, for provenance.

        Args:
            players: Players of prompts.
            sample: The number of the prompt.

        Returns:
            ``"continuation"``, with its ``"text"`` and ``"ids"``.

        Warns:
            UserWarning: The prompt ends in an end token, or the tokenizer would write prompt and continuation as one
                text with other tokens.
        """
        record = {"continuation": {"text": self.text, "ids": self.tokens.tolist()}}
        ids = visible_ids(players, sample)
        if ids is not None and self._tokenizer is not None:
            warn_of_joint(self._tokenizer, sample, ids, self.tokens.tolist(), self._given_text)
        return record

    def layer(self, name: str | int) -> Layer:
        """Return a layer, read at the positions from which the continuation's tokens are predicted.

        Args:
            name: Its name in the model, or its number among the blocks.

        Returns:
            The layer, whose feature is ``[R, c * D]`` for the c tokens of the continuation. Of a model for which
            padding counts, it is read in a batch of prompts of one length only.
        """
        return Layer(name, pool=self.places)

    @checked()
    def places(self, output: Tensor) -> Tensor:
        """Return the vectors ``[R, c * D]`` that predict the continuation, out of a layer's ``[R, T, D]``."""
        return output[:, -len(self.tokens) :].flatten(1)

    def lens(self, modules: Sequence[str | nn.Module | Callable[[Tensor], Tensor]] | None = None) -> Readout:
        """Return the logit lens: the continuation's log-odds if a layer were the last one.

        Args:
            modules: See :func:`captum_lkn.probes.lens.logit_lens`.

        Returns:
            A read-out of the layers that :meth:`layer` makes; it needs no training.

        Raises:
            ValueError: As :func:`captum_lkn.probes.lens.logit_lens`.

        Example:
            >>> from captum_lkn import LayerAndOrInteraction, players_from_mask
            >>> from transformers import LlamaConfig, LlamaForCausalLM
            >>> config = LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
            ...                      num_attention_heads=2)
            >>> says = Continuation(LlamaForCausalLM(config).eval(), [7, 4])
            >>> method = LayerAndOrInteraction(says, [says.layer(0), says.layer(1), "output"], probe=says.lens(),
            ...                               noise=0)
            >>> found = method.attribute(torch.tensor([[1, 2, 3]]), baselines=5)
            >>> list(found)
            ['model.layers.0', 'model.layers.1', 'output']
            >>> torch.allclose(found["model.layers.1"][0].values, found["output"][0].values, atol=1e-5)
            True
        """
        return lens_of_continuation(logit_lens(self.module, modules), self.tokens)

    @checked()
    def all_masks(
        self,
        players: Players,
        sample: int,
        attention_mask: Tensor | None = None,
        *,
        advance: Callable[[int], object] | None = None,
    ) -> AllMasks:
        """Evaluate all 2^n masked copies of one prompt, computing shared prefixes once.

        The plain evaluation is needed if that saves nothing, if the model cannot do it, or if a few subsets that are
        evaluated both ways differ.

        Args:
            players: Players of prompts.
            sample: The number of the prompt.
            attention_mask: ``[1, T]``, of this prompt; None for that of the players, if they have one.
            advance: Called with the number of subsets that are done, each time that some are.

        Returns:
            The outputs, or None, and the method of evaluation.
        """
        found = self.part_of_masks(players, sample, attention_mask, advance=advance)
        if found.subsets is None or found.outputs is None:
            return AllMasks(None, found.evaluation)
        outputs = torch.empty_like(found.outputs)
        outputs[found.subsets] = found.outputs
        return AllMasks(outputs, found.evaluation)

    @checked()
    def part_of_masks(
        self,
        players: Players,
        sample: int,
        attention_mask: Tensor | None = None,
        *,
        part: tuple[int, int] = (0, 1),
        advance: Callable[[int], object] | None = None,
    ) -> PartOfMasks:
        """Evaluate a part of all masked copies of one prompt; see :meth:`all_masks`.

        Subtrees stay together, and each is evaluated in the forwards that it has in the whole.

        Args:
            players: Players of prompts.
            sample: The number of the prompt.
            attention_mask: As in :meth:`all_masks`.
            part: (i, k), the i-th of k parts, from 0.
            advance: As in :meth:`all_masks`.

        Returns:
            The subsets of the part and their outputs, or None, and the method of evaluation.
        """
        walk = self._walk(players, sample, attention_mask)
        if isinstance(walk, AllMasks):
            return PartOfMasks(None, None, walk.evaluation)

        with Model(self).session():
            return self._leaves(players, sample, attention_mask, walk).evaluate(part, advance)

    def plan_masks(self, players: Players, sample: int, attention_mask: Tensor | None = None) -> MasksPlan:
        """Count what :meth:`all_masks` takes for one prompt, and begin with it.

        Args:
            players: Players of prompts.
            sample: The number of the prompt.
            attention_mask: As in :meth:`all_masks`.

        Returns:
            The counts, and the first part of the work.
        """
        walk = self._walk(players, sample, attention_mask)
        if isinstance(walk, AllMasks):
            return MasksPlan(0, 0, walk.evaluation.get("tokens", 0), walk.evaluation["reason"], lambda: 0)

        def begin() -> int:
            with Model(self).session():
                found = self._leaves(players, sample, attention_mask, walk).first()
            return 0 if isinstance(found, str) else len(found[0])

        # A few subsets are evaluated plainly as well.
        return MasksPlan(walk.forwards + 1, walk.tree.tokens, walk.tree.plain_tokens, "", begin)

    def _walk(self, players: Players, sample: int, attention_mask: Tensor | None) -> Walk | AllMasks:
        """Return the walk over the prefix tree of one prompt, or the reason why there is none."""
        reason = not_a_prompt(players) if self.share_prefixes else None
        reason = reason or self._why_plain()
        if reason is not None:
            return plainly(reason)
        return walk_over(self.module, self.tokens, players, sample, attention_mask)

    def _why_plain(self) -> str | None:
        """Return the reason why prefixes are not shared; None: they may be."""
        if not self.share_prefixes:
            return "share_prefixes=False"
        reason = why_not(self.module, set(self._called.parameters))
        if reason is None and self._takes_prompts_alone():
            return "padding or positions from 0 change its outputs"
        return reason

    def _leaves(self, players: Players, sample: int, attention_mask: Tensor | None, walk: Walk) -> Leaves:
        return Leaves(
            walk,
            lambda logits: continuation_log_odds(logits, self.tokens).cpu().double(),
            lambda subsets, values: difference(self, self.module, players, sample, attention_mask, subsets, values),
        )
