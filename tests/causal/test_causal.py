import contextlib
import functools
import math
import warnings
from decimal import Decimal, getcontext

import captum.attr
import pytest
import torch
import transformers
from forwards import data_parallel
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import BERT, made, tiny_causal
from tiny_tokenizers import byte_bpe, byte_fallback, paris_bytes, paris_pieces, sentence_pieces, word_level
from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel, T5Config, T5ForConditionalGeneration

from captum_lkn import (
    AndOrInteraction,
    ExactShapleyValues,
    LayerAndOrInteraction,
    average_baselines,
    players_from_mask,
    prompt_players,
    text_players,
)
from captum_lkn.causal.continuation import Continuation, continuation_log_odds
from captum_lkn.models.model import Model

PROMPT = torch.tensor([[3, 9, 4, 11, 7, 8]])
OWNERS = torch.tensor([[-1, 0, 1, 1, -1, 2]])


@pytest.fixture(scope="module")
def llama():
    return tiny_causal("llama")


def log_probability(model, prompt, continuation):
    """One token after the other, each in a forward of its own."""
    total, ids = 0.0, list(prompt)
    for token in continuation:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        total += float(logits.log_softmax(0)[token])
        ids.append(token)
    return total


def log_odds(log_p):
    return log_p - math.log(-math.expm1(log_p))


def padded(side, prompts):
    length = max(map(len, prompts))
    rows = {
        "right": lambda p, fill: p + [fill] * (length - len(p)),
        "left": lambda p, fill: [fill] * (length - len(p)) + p,
    }
    pad = rows[side]
    return torch.tensor([pad(p, 1) for p in prompts]), torch.tensor([pad([1] * len(p), 0) for p in prompts])


# ---------------------------------------------------------------- the numbers


@given(st.lists(st.floats(-400, 400), min_size=1, max_size=4))
def test_log_odds_of_a_whole_continuation_are_exact(each):
    getcontext().prec = 500
    odds_against = math.prod(1 + Decimal(-z).exp() for z in each) - 1
    logits = torch.zeros(1, len(each), 2, dtype=torch.float64)
    logits[0, :, 1] = torch.tensor(each, dtype=torch.float64)
    found = continuation_log_odds(logits, torch.ones(len(each), dtype=torch.int64))
    assert float(found) == pytest.approx(float(-odds_against.ln()), rel=1e-12, abs=1e-12)


def test_log_odds_far_beyond_what_a_probability_can_hold():
    logits = torch.tensor([[[1e4, 0.0], [1e4, 0.0]], [[-1e4, 0.0], [1e4, 0.0]]])
    assert continuation_log_odds(logits, torch.tensor([0, 0])).tolist() == pytest.approx([1e4 - math.log(2), -1e4])


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "bloom"])
@pytest.mark.parametrize("continuation", [[5], [5, 2, 17]])
@torch.no_grad()
def test_output_is_the_log_odds_of_the_continuation(family, continuation):
    model = tiny_causal(family)
    found = Continuation(model, continuation)(PROMPT)
    assert found.dtype == torch.float64
    assert found.tolist() == [
        [pytest.approx(log_odds(log_probability(model, PROMPT[0].tolist(), continuation)), abs=1e-5)]
    ]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "bloom"])
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(family, side):
    says = Continuation(tiny_causal(family), [5, 2])
    prompts = [[3, 9, 4, 11], [7, 8], [10]]
    ids, mask = padded(side, prompts)
    alone = torch.cat([says(torch.tensor([prompt])) for prompt in prompts])
    torch.testing.assert_close(says(ids, mask), alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_token_out_of_the_attention_mask_was_never_there(llama):
    says = Continuation(llama, [5])
    hidden = says(PROMPT, torch.tensor([[1, 1, 0, 0, 1, 1]]))
    torch.testing.assert_close(hidden, says(PROMPT[:, [0, 1, 4, 5]]), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_logits_of_the_whole_prompt_never_exist():
    model, shapes = tiny_causal("llama"), []
    model.lm_head.register_forward_hook(lambda _, args, output: shapes.append(tuple(output.shape)))
    says = Continuation(model, [5, 2])
    shapes.clear()  # of the check that the model is causal
    says(PROMPT.expand(3, -1))
    assert shapes == [(3, 2, 29)]


# ---------------------------------------------------------------- with the methods


@pytest.mark.parametrize(("score", "value"), [("log_prob", lambda p: p), ("prob", math.exp), ("log_odds", log_odds)])
def test_scores_say_what_their_names_say(llama, score, value):
    found = AndOrInteraction(Continuation(llama, [5, 2]), score=score).attribute(PROMPT, 1, feature_mask=OWNERS)[0]
    masked = torch.where(OWNERS < 0, PROMPT, 1)[0].tolist()
    for values, prompt in ((found.v_full, PROMPT[0].tolist()), (found.v_empty, masked)):
        assert values == pytest.approx(value(log_probability(llama, prompt, [5, 2])), abs=1e-5)


def test_captum_takes_it_too(llama):
    says = Continuation(llama, [5])
    with torch.no_grad():
        theirs = captum.attr.ShapleyValues(says).attribute(PROMPT, 1, 0, feature_mask=OWNERS + 1)
    ours = ExactShapleyValues(says).attribute(PROMPT, 1, feature_mask=OWNERS + 1)
    torch.testing.assert_close(ours.double(), theirs.double(), atol=1e-4, rtol=1e-4)


def test_the_model_inside_is_found_and_left_as_it_was():
    model = tiny_causal("llama").train()
    with pytest.warns(UserWarning, match="LlamaForCausalLM is in training mode"):
        says = Continuation(model, [5])
    assert Model(says).module is model
    with pytest.warns(UserWarning, match="LlamaForCausalLM is in training mode"):
        AndOrInteraction(says).attribute(PROMPT, 1, feature_mask=OWNERS)
    assert all(module.training for module in model.modules())


# ---------------------------------------------------------------- all masks at once


def masked_one_by_one(says, players, sample, attention_mask=None):
    n = players.sizes[sample]
    masks = torch.tensor([[bool(subset >> i & 1) for i in range(n)] for subset in range(1 << n)])
    (copies,) = players.masked(sample, masks)
    return torch.cat([says(row[None], attention_mask) for row in copies])


@pytest.mark.parametrize("continuation", [[5], [5, 2, 17]])
@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "qwen2"])
@torch.no_grad()
def test_all_masks_at_once_are_all_masks_one_by_one(family, continuation):
    says = Continuation(tiny_causal(family), continuation)
    players = players_from_mask({"input_ids": PROMPT}, 1, torch.tensor([[-1, -1, 2, 1, 0, 0]]))
    done = []
    found = says.all_masks(players, 0, advance=done.append)
    torch.testing.assert_close(found.outputs, masked_one_by_one(says, players, 0), atol=1e-5, rtol=1e-5)
    more = len(continuation) - 1
    tokens = 2 + 2 + 4 + 8 * (2 + more)
    assert found.evaluation == {"evaluation": "prefix tree", "tokens": tokens, "plain_tokens": 8 * (6 + more)}
    assert sum(done) == 8


def test_interactions_say_how_their_values_came_about(llama):
    found = {
        share: AndOrInteraction(Continuation(llama, [5], share_prefixes=share)).attribute(last_players())[0]
        for share in (True, False)
    }
    assert [found[share].provenance["evaluation"] for share in (True, False)] == ["prefix tree", "plain"]
    torch.testing.assert_close(found[True].values, found[False].values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_all_masks_of_padded_prompts(llama, side):
    says = Continuation(llama, [5, 2])
    ids, mask = padded(side, [[3, 9, 4, 11, 6], [7, 8, 10]])
    owners = torch.where(mask == 1, mask.cumsum(1) - 2, -1)  # all but the first
    players = players_from_mask({"input_ids": ids, "attention_mask": mask}, 1, owners)
    for sample in (0, 1):
        own = mask[sample : sample + 1]
        found = says.all_masks(players, sample)
        assert found.evaluation["evaluation"] == "prefix tree"
        torch.testing.assert_close(found.outputs, masked_one_by_one(says, players, sample, own), atol=1e-5, rtol=1e-5)
        assert torch.equal(found.outputs, says.all_masks(players, sample, own).outputs)


def last_players():
    return players_from_mask({"input_ids": PROMPT}, 1, torch.tensor([[-1, -1, -1, 0, 1, 2]]))


@pytest.mark.parametrize(
    ("says", "players", "reason"),
    [
        (lambda: Continuation(tiny_causal("llama"), [5], share_prefixes=False), last_players, "share_prefixes=False"),
        (
            lambda: Continuation(tiny_causal("mistral", sliding_window=3), [5]),
            last_players,
            "DynamicSlidingWindowLayer",
        ),
        (lambda: Continuation(tiny_causal("bloom"), [5]), last_players, "takes no position_ids"),
        (
            lambda: Continuation(tiny_causal("llama"), [5]),
            lambda: players_from_mask({"input_ids": PROMPT}, 1, torch.tensor([[0, 1, -1, -1, -1, -1]])),
            "share too little",
        ),
        (
            lambda: Continuation(tiny_causal("llama"), [5]),
            lambda: players_from_mask((PROMPT, torch.ones_like(PROMPT)), (1, 0), (OWNERS, OWNERS)),
            "more is masked than input_ids",
        ),
        (
            lambda: Continuation(tiny_causal("llama"), [5]),
            lambda: players_from_mask(
                {"input_ids": PROMPT, "attention_mask": torch.tensor([[1, 1, 1, 0, 1, 1]])},
                1,
                torch.tensor([[-1, -1, -1, 0, 1, 2]]),
            ),
            "a player owns no token",
        ),
    ],
)
def test_the_plain_evaluation_is_called_for(says, players, reason):
    found = says().all_masks(players(), 0)
    assert found.outputs is None
    assert found.evaluation["evaluation"] == "plain"
    assert reason in found.evaluation["reason"]


def test_a_model_that_reads_the_tree_mask_in_its_own_way_is_found_out():
    model = tiny_causal("llama")
    forward = model.model.forward

    def ignoring(input_ids=None, attention_mask=None, **options):
        return forward(
            input_ids=input_ids, attention_mask=attention_mask if attention_mask.dim() == 2 else None, **options
        )

    model.model.forward = lambda **options: (
        ignoring(**options) if options["attention_mask"] is not None else forward(**options)
    )
    done = []
    found = Continuation(model, [5]).all_masks(last_players(), 0, advance=done.append)
    assert found.outputs is None
    assert done == []
    assert "its outputs under a tree mask differ by" in found.evaluation["reason"]


def test_all_masks_leave_model_and_randomness_alone():
    model = tiny_causal("llama").train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with pytest.warns(UserWarning, match="training mode"):
        found = Continuation(model, [5]).all_masks(last_players(), 0)
    assert not found.outputs.requires_grad
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# ---------------------------------------------------------------- what the continuation is


def test_what_the_model_itself_would_say(llama):
    players = players_from_mask({"input_ids": PROMPT}, 1, OWNERS)
    said = llama.generate(PROMPT, max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert Continuation.predicted(llama, players, tokens=3).tokens.tolist() == said[0, 6:].tolist()


@pytest.mark.parametrize("wrap", [lambda model: torch.compile(model, backend="eager"), data_parallel])
def test_a_wrapped_model_says_the_same(wrap):
    model, wrapped = tiny_causal("gpt2"), wrap(tiny_causal("gpt2"))
    padded, attention = torch.tensor([[1, 2, 3, 4], [0, 0, 5, 6]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    with torch.no_grad():
        expected = Continuation(model, [7, 4])(padded, attention)
        assert torch.equal(Continuation(wrapped, [7, 4])(padded, attention), expected)
    players = players_from_mask({"input_ids": PROMPT}, 1, OWNERS)
    assert (
        Continuation.predicted(wrapped, players).tokens.tolist()
        == Continuation.predicted(model, players).tokens.tolist()
    )


def test_what_the_model_would_say_to_a_padded_prompt(llama):
    alone = players_from_mask({"input_ids": PROMPT}, 1, OWNERS)
    ids, mask = padded("right", [PROMPT[0].tolist(), [1] * 9])
    batch = players_from_mask({"input_ids": ids[:1], "attention_mask": mask[:1]}, 1, mask[:1] - 1)
    assert torch.equal(Continuation.predicted(llama, batch).tokens, Continuation.predicted(llama, alone).tokens)


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens"),
    [
        (paris_bytes, " Par", "ĠPa | r"),
        (paris_bytes, "Par", "Pa | r"),
        (paris_bytes, "\nPar", "Ċ | Pa | r"),
        (paris_pieces, " Par", "▁Pa | r"),
        (paris_pieces, "Par", "Pa | r"),
    ],
)
def test_a_text_is_tokenised_as_it_follows_a_prompt(llama, tokenizer, text, tokens):
    assert repr(Continuation(llama, text, tokenizer())).endswith(f": {tokens}")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda model: Continuation(lambda ids: ids, [1]), TypeError, "must be a causal language model.*a function"),
        (lambda model: Continuation(model, " Paris"), TypeError, "a text, ' Paris', which needs a tokenizer"),
        (
            lambda model: Continuation(model, None),
            TypeError,
            "text or a sequence of whole numbers or a tensor; got None",
        ),
        (lambda model: Continuation(model, [1.5]), TypeError, r"whole numbers or a tensor; got \[1.5\]"),
        (lambda model: Continuation(model, []), ValueError, "at least one token"),
        (lambda model: Continuation(model, torch.ones(1, 1).long()), ValueError, "at least one token"),
        (lambda model: Continuation(model, [3, 29]), ValueError, "ids of the vocabulary, 0 to 28"),
        (lambda model: Continuation(model, [-1]), ValueError, "ids of the vocabulary, 0 to 28"),
        (lambda model: Continuation(model, [1])([[1]]), TypeError, "tensor of token ids; got a list"),
        (lambda model: Continuation(model, [1])(torch.ones(1, 3)), TypeError, r"got float32 \[1, 3\]"),
        (lambda model: Continuation(model, [1])(PROMPT[0]), ValueError, r"input_ids must be \[R, T\]"),
        (lambda model: Continuation(model, [1])(PROMPT, PROMPT[:, 1:]), ValueError, r"got \[1, 6\] and \[1, 5\]"),
        (
            lambda model: Continuation(model, [1])(PROMPT, PROMPT * 0),
            ValueError,
            "prompt 0 must have at least one",
        ),
        (lambda model: Continuation.predicted(model, last_players(), tokens=0), ValueError, "at least 1; got 0"),
        (
            lambda model: Continuation.predicted(model, players_from_mask(PROMPT.repeat(2, 1), 1, OWNERS)),
            ValueError,
            "one prompt; got 2 prompts",
        ),
    ],
)
def test_errors_say_what_to_do(llama, make, error, message):
    with pytest.raises(error, match=message):
        make(llama)


def test_models_that_are_not_causal():
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    masked = BertForMaskedLM(BertConfig(**sizes, intermediate_size=8))
    seq2seq = T5ForConditionalGeneration(T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    for model in (masked, seq2seq):
        with pytest.raises(ValueError, match=f"{type(model).__name__} is not a causal language model"):
            Continuation(model, [1])


@pytest.mark.parametrize(
    ("family", "settings", "is_causal"),
    [("Bert", {}, False), ("Bert", {"is_decoder": True}, True), ("Roberta", {}, False)],
    ids=["bert", "bert as decoder", "roberta"],
)
def test_a_model_whose_earlier_logits_change_is_refused(family, settings, is_causal):
    sizes = {"vocab_size": 29, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 1}
    config = getattr(transformers, f"{family}Config")(**sizes, intermediate_size=8, initializer_range=0.5, **settings)
    head = "BertLMHeadModel" if family == "Bert" else "RobertaForCausalLM"
    model = getattr(transformers, head)(config)  # in training mode, whose dropout changes all logits
    for used in (model.train, model.eval):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of training mode
            if is_causal:
                assert Continuation(used(), [1])(PROMPT).shape == (1, 1)
                continue
            with pytest.raises(ValueError, match=f"{head} is not causal: another last token changes the logits before"):
                Continuation(used(), [1])
        assert model.training is (used == model.train)


def test_a_model_with_offloaded_weights_is_checked_at_the_first_call():
    accelerate = pytest.importorskip("accelerate", reason="offloading is accelerate's, a development extra")
    sizes = {"vocab_size": 29, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    causal, config = tiny_causal("llama"), BertConfig(**sizes, intermediate_size=8, initializer_range=0.5)
    expected = Continuation(causal, [5])(PROMPT)
    offloaded = Continuation(accelerate.cpu_offload(causal), [5])
    assert all(parameter.is_meta for parameter in causal.parameters())
    torch.testing.assert_close(offloaded(PROMPT), expected)
    other = Continuation(accelerate.cpu_offload(transformers.BertLMHeadModel(config).eval()), [5])
    with pytest.raises(ValueError, match="BertLMHeadModel is not causal"):
        other(PROMPT)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_prompt_tuning_is_evaluated_plainly(kind):
    peft = pytest.importorskip("peft", reason="adapters of peft are a development extra")
    config = {
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own
        model = peft.get_peft_model(tiny_causal("llama"), config[kind]()).eval()
    says = Continuation(model, [5, 2])
    found = AndOrInteraction(says, score="log_prob").attribute(last_players())[0]
    assert found.provenance["evaluation"] == "plain"
    assert found.provenance["reason"] == "its adapter puts tokens of its own before the prompt"
    for subset in (0, 5, 7):
        ids = [3, 9, 4, *(token if subset >> i & 1 else 1 for i, token in enumerate([11, 7, 8]))]
        assert float(found.values[subset]) == pytest.approx(log_probability(model, ids, [5, 2]), abs=1e-5)
    prompts, mask = padded("right", [[3, 9, 4, 11], [7, 8]])
    with torch.no_grad():
        alone = torch.cat([says(torch.tensor([prompt])) for prompt in ([3, 9, 4, 11], [7, 8])])
        torch.testing.assert_close(says(prompts, mask), alone, atol=1e-5, rtol=1e-5)


SMALL = {"vocab_size": 29, "hidden_size": 16, "num_hidden_layers": 2}
OF_THEIR_OWN = {
    "reads padding": ("RwkvForCausalLM", "RwkvConfig", {"attention_hidden_size": 16, "intermediate_size": 16}),
    "positions by token ids": (
        "RobertaForCausalLM",
        "RobertaConfig",
        {"num_attention_heads": 2, "intermediate_size": 16, "is_decoder": True, "pad_token_id": 1, "bos_token_id": 0},
    ),
}


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_prompts_go_alone_where_padding_or_positions_are_the_models_own(name):
    model_class, config_class, own = OF_THEIR_OWN[name]
    sizes = SMALL | own | ({"initializer_range": 0.5} if name != "reads padding" else {})
    model = made(getattr(transformers, model_class), getattr(transformers, config_class), **sizes)
    says, prompts = Continuation(model, [5, 2]), [[3, 9, 4, 11], [7, 8], [10]]
    expected = torch.tensor([[log_odds(log_probability(model, prompt, [5, 2]))] for prompt in prompts])
    for side in ("left", "right"):
        with torch.no_grad():
            torch.testing.assert_close(says(*padded(side, prompts)), expected.double(), atol=1e-5, rtol=1e-5)
    found = AndOrInteraction(says, score="log_prob", noise=0).attribute(last_players())[0]  # padding tokens for absent
    assert found.provenance["evaluation"] == "plain"
    for subset in (0, 5, 7):
        ids = [3, 9, 4, *(token if subset >> i & 1 else 1 for i, token in enumerate([11, 7, 8]))]
        assert float(found.values[subset]) == pytest.approx(log_probability(model, ids, [5, 2]), abs=1e-5)
    predicted = Continuation.predicted(model, last_players())
    with torch.no_grad():
        assert predicted.tokens.tolist() == [int(model(PROMPT).logits[0, -1].argmax())]


def test_a_tree_of_more_tokens_than_a_model_has_positions():
    sizes = {"vocab_size": 29, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_position_embeddings": 8}
    kinds = {"attention_types": [[["global"], 1]]}
    model = made(transformers.GPTNeoForCausalLM, transformers.GPTNeoConfig, **sizes, **kinds)
    found = Continuation(model, [5]).all_masks(last_players(), 0)
    assert found.outputs is None
    assert found.evaluation["reason"] == "it fails under a tree mask (RuntimeError)"


# ---------------------------------------------------------------- what is remembered


def test_provenance_holds_text_and_tokens_of_the_continuation(llama):
    players = last_players()

    def continuation_of(*arguments):
        return AndOrInteraction(Continuation(llama, *arguments)).attribute(players)

    tokenizer = paris_bytes()
    assert continuation_of([5, 2])[0].provenance["continuation"] == {"text": None, "ids": [5, 2]}
    ids = tokenizer(" Par")["input_ids"]
    assert continuation_of(" Par", tokenizer)[0].provenance["continuation"] == {"text": " Par", "ids": ids}
    assert continuation_of(ids, tokenizer)[0].provenance["continuation"]["text"] == tokenizer.decode(ids)
    with pytest.raises(ValueError, match="sample 0 has the continuation"):
        average_baselines([continuation_of([5, 2]), continuation_of([5, 3])])


@pytest.mark.parametrize(
    ("prompt", "text", "noted"),
    [
        ("it is", " good", False),
        ("it is ", "good", True),  # " good" is another token
        ("it is goo", "d", True),
        ("it is", ".", False),
    ],
)
@pytest.mark.parametrize("make", [byte_fallback, functools.partial(byte_bpe, roberta=False)], ids=["pieces", "bytes"])
def test_a_continuation_that_is_tokenised_otherwise_behind_the_prompt(make, prompt, text, noted):
    tokenizer = make()
    says = Continuation(tiny_causal("llama", vocab_size=len(tokenizer)), text, tokenizer)
    players = prompt_players(tokenizer, prompt, baseline="t")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        AndOrInteraction(says, noise=0).attribute(players)
    notes = [str(one.message) for one in caught if "written as one text" in str(one.message)]
    assert len(notes) == noted
    assert all(f"the prompt 0 and its continuation {text!r} end in the tokens" in note for note in notes)


def test_a_prompt_that_ends_in_an_end_token_is_noted():
    tokenizer = byte_bpe()
    says = Continuation(tiny_causal("llama", vocab_size=len(tokenizer)), " good", tokenizer)
    with pytest.warns(UserWarning, match=r"the prompt 0 ends in the token '</s>', behind which .*prompt_players"):
        AndOrInteraction(says, kappa=1.0).attribute(text_players(tokenizer, "it is"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = AndOrInteraction(says, kappa=1.0).attribute(prompt_players(tokenizer, "it is"))
    ids = tokenizer("it is")["input_ids"][:-1]
    expected = log_odds(log_probability(says.module, ids, tokenizer(" good", add_special_tokens=False)["input_ids"]))
    assert found[0].v_full == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "text", "tokens"),
    [
        (sentence_pieces, "\U0001f641 电", ["<unk>", "▁", "电"]),  # its tokenizer does not know a line break either
        (sentence_pieces, "Yes", ["<unk>", "e", "s"]),
        (sentence_pieces, "映画", ["<unk>"]),
        (byte_fallback, "Ye", ["<0x59>", "e"]),
        (byte_fallback, "\U0001f641", ["<0xF0>", "<0x9F>", "<0x99>", "<0x81>"]),
        (word_level, "yes", ["[UNK]"]),
    ],
)
def test_no_character_of_a_continuation_is_dropped(make, text, tokens):
    tokenizer = make()
    unknown = tokenizer.unk_token in tokens
    with pytest.warns(match="does not know all characters") if unknown else contextlib.nullcontext():
        says = Continuation(tiny_causal("llama", vocab_size=len(tokenizer)), text, tokenizer)
    assert tokenizer.convert_ids_to_tokens(says.tokens) == tokens


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("continuation", [[5], [5, 9]])
def test_the_lens_of_a_layer_is_the_head_on_its_hidden_states(llama, continuation):
    says = Continuation(llama, continuation)
    players = players_from_mask(PROMPT, 2, OWNERS)
    found = LayerAndOrInteraction(
        says, [says.layer(0), "output"], probe=says.lens(), score="logit", kind="and", noise=0
    ).attribute(players)
    table = []
    for subset in range(8):
        prompt = [
            int(token) if player < 0 or subset >> int(player) & 1 else 2
            for token, player in zip(PROMPT[0], OWNERS[0], strict=True)
        ]
        with torch.no_grad():
            ids = torch.tensor([prompt + continuation[:-1]])
            hidden = llama(input_ids=ids, output_hidden_states=True).hidden_states[1][0, -len(continuation) :]
            chances = llama.lm_head(llama.model.norm(hidden)).double().log_softmax(-1)
        table.append(log_odds(sum(float(row[token]) for row, token in zip(chances, continuation, strict=True))))
    torch.testing.assert_close(found["model.layers.0"][0].values, torch.tensor(table).double(), atol=1e-4, rtol=1e-4)
    expected = AndOrInteraction(says, score="logit", kind="and", noise=0).attribute(players)
    torch.testing.assert_close(found["output"][0].values, expected[0].values, atol=1e-4, rtol=1e-4)
    assert found["output"][0].provenance["evaluation"] == "plain"  # layers are read row by row


def test_the_lens_of_the_last_layer_is_the_output(llama):
    last = len(llama.model.layers) - 1
    says = Continuation(llama, [5, 9])
    ids, mask = padded("right", [[3, 9, 4], [3, 9, 4, 8, 7]])
    players = players_from_mask({"input_ids": ids, "attention_mask": mask}, 2, torch.tensor([[-1, 0, 1, -1, -1]]))
    found = LayerAndOrInteraction(
        says, [says.layer(last), "output"], probe=says.lens(), score="logit", kind="and", noise=0
    ).attribute(players)
    for of_layer, of_output in zip(*found.values(), strict=True):
        torch.testing.assert_close(of_layer.values, of_output.values, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:the forward does not tell")
def test_a_layer_pooled_by_rule_is_read_at_the_last_token_of_what_the_model_gets(llama):
    says = Continuation(llama, [5, 9])
    ids, mask = padded("right", [[3, 9, 4], [3, 9, 4, 8, 7]])
    seen = []
    reading = LayerAndOrInteraction(
        says, "model.layers.0", probe=lambda feature: seen.append(feature) or feature[:, :1], score="logit", noise=0
    )
    reading.attribute({"input_ids": ids, "attention_mask": mask}, 2, feature_mask=torch.tensor([[-1, 0, -1, -1, -1]]))
    with torch.no_grad():
        expected = [
            llama(input_ids=torch.tensor([[*prompt, 5]]), output_hidden_states=True).hidden_states[1][0, -1]
            for prompt in ([3, 9, 4], [3, 9, 4, 8, 7])
        ]
    for vector in expected:  # all players present, somewhere among the rows
        assert any(torch.allclose(row, vector, atol=1e-5) for feature in seen for row in feature)


def test_what_a_tokenizer_returns_beside_ids_and_mask(llama):
    """Token types that a model does not take, or whose default they are, change nothing; others are refused."""
    mask = torch.ones_like(PROMPT)
    extras = {"token_type_ids": mask, "special_tokens_mask": mask, "length": torch.tensor([6])}
    says = Continuation(llama, [7])
    expected = AndOrInteraction(says).attribute({"input_ids": PROMPT}, baselines=0, feature_mask=OWNERS)
    given = {"attention_mask": mask, **extras}
    found = AndOrInteraction(says).attribute(
        {"input_ids": PROMPT}, baselines=0, feature_mask=OWNERS, additional_forward_args=given
    )
    torch.testing.assert_close(found[0].values, expected[0].values, atol=1e-5, rtol=0)
    bert = made(BertLMHeadModel, BertConfig, **BERT, is_decoder=True)
    with torch.no_grad():
        by_hand = bert(PROMPT, token_type_ids=0 * mask).logits[0, -1].double()
        z = Continuation(bert, [7])(PROMPT, mask, token_type_ids=0 * mask)
        expected = by_hand[7] - torch.cat([by_hand[:7], by_hand[8:]]).logsumexp(0)
        assert float(z) == pytest.approx(float(expected), abs=1e-5)
        with pytest.raises(TypeError, match="BertLMHeadModel takes input_ids and attention_mask; got token_type_ids"):
            Continuation(bert, [7])(PROMPT, mask, token_type_ids=mask)
        with pytest.raises(TypeError, match=r"GPT2LMHeadModel takes .* got token_type_ids too: leave it out"):
            Continuation(tiny_causal("gpt2"), [7])(PROMPT, mask, token_type_ids=0 * mask)
        with pytest.raises(TypeError, match="got position_ids too"):
            says(PROMPT, mask, position_ids=mask)
