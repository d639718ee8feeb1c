import pytest
import torch
import transformers
from captum.attr import ProductBaselines, TextTemplateInput, TextTokenInput
from tiny_models import tiny_causal
from tiny_tokenizers import (
    CHAT_TEMPLATE,
    Letters,
    byte_bpe,
    byte_fallback,
    chat_like,
    paris_bytes,
    sentence_pieces,
    word_level,
)

from captum_lkn import AndOrInteraction
from captum_lkn.attribution.checks import check_model
from captum_lkn.causal.continuation import Continuation
from captum_lkn.players.prompts import prompt_players

STRIPPING = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}\n{% endfor %}"
CHAT = [
    {"role": "system", "content": "be user nice"},
    {"role": "user", "content": "is the user not a good one ?"},
    {"role": "assistant", "content": "no"},
    {"role": "user", "content": "why not"},
]


@pytest.fixture(scope="module")
def tokenizer():
    return chat_like()


def read(tokenizer, players, present=()):
    """The text with some players there and the others replaced."""
    mask = torch.tensor([[label in present for label in players.labels[0]]])
    ids, *seen = players.masked(0, mask)
    return tokenizer.decode(ids[0][seen[0][0].bool()] if seen else ids[0])


def test_words_of_a_text(tokenizer):
    players = prompt_players(tokenizer, "is it a good user ?", stop_words=True, punctuation=False, baseline="Ġa")
    assert players.labels == (("good", "user"),)
    assert read(tokenizer, players, ["user"]).endswith("is it a a user ?")
    assert list(players.constants) == ["attention_mask"]


def test_a_chat_keeps_its_template(tokenizer):
    players = prompt_players(tokenizer, CHAT, baseline="^")
    assert players.labels == (("is", "the", "user", "not", "a", "good", "one", "?", "why", "not"),)
    ids = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    assert players.inputs[0].tolist() == [ids]
    empty = read(tokenizer, players)
    assert empty.replace("^", "") == (
        "<|endoftext|><|im_start|>system\nbe user nice<|im_end|>\n<|im_start|>user\n<|im_end|>\n"
        "<|im_start|>assistant\nno<|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    )


def test_words_of_a_chat_are_chosen_as_those_of_a_text(tokenizer):
    choose = {"baseline": "^"}
    assert prompt_players(tokenizer, CHAT, words=["NOT", 2], **choose).labels == (("user", "not", "not"),)
    assert prompt_players(tokenizer, CHAT, stop_words=True, punctuation=False, **choose).labels == (
        ("user", "not", "good", "one", "why", "not"),
    )
    assert prompt_players(tokenizer, CHAT, roles=["system"], **choose).labels == (("be", "user", "nice"),)
    with pytest.raises(ValueError, match=r"words has 'nice', which is not a word of the text"):
        prompt_players(tokenizer, CHAT, words=["nice"], **choose)


def test_a_template_that_strips_and_glues(tokenizer):
    chat = [{"role": "user", "content": "  good user\n"}]
    glued = "<{% for m in messages %}{{ m['content'] | trim }}{% endfor %}>"
    for template, around in ((STRIPPING, "[user] {}\n"), (glued, "<{}>")):
        players = prompt_players(tokenizer, chat, chat_template=template, baseline="^")
        assert players.labels == (("good", "user"),)
        assert read(tokenizer, players, ["good", "user"]) == around.format("good user")
        assert read(tokenizer, players).replace("^", "").replace(" ", "") == around.format("").replace(" ", "")


def test_without_a_mask_token_a_warning_names_the_one_that_is_taken(tokenizer):
    with pytest.warns(UserWarning, match=r"no mask token.*pad_token, '<\|im_end\|>'"):
        players = prompt_players(tokenizer, CHAT)
    assert players.description["baseline"] == "<|im_end|>"


def test_tokens_of_captum(tokenizer):
    prompt = TextTokenInput("a good user", tokenizer, baselines="_", skip_tokens=["a"])
    players = prompt_players(tokenizer, prompt)
    assert players.labels == (tuple(prompt.values),)
    for mask in ([1, 0], [0, 1]):
        full = mask + [1] * (prompt.n_itp_features - 2)
        found = players.masked(0, torch.tensor([full]).bool())[0]
        expected = prompt.to_model_input(torch.where(torch.tensor([full]) == 1, prompt.to_tensor(), prompt.baselines))
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "prompt",
    [
        TextTemplateInput("a {} user is {} bad", ["good", "not a"], ["bad", ""]),
        TextTemplateInput("{}, {}. {}", ["good user", "is", "a bad one"]),
        TextTemplateInput("is {b} not {a}?", {"a": "good", "b": "the user"}, {"a": "a bad one", "b": "it"}),
        TextTemplateInput("{} {} {}", ["a", "good", "user"], ["", "bad", "_"], mask=[4, 7, 4]),
        TextTemplateInput(lambda *v: f"is {v[1]} or {v[0]}", ["good", "bad"], lambda: ["not", ""]),
    ],
)
def test_a_template_of_captum_reads_as_captum_renders_it(tokenizer, prompt):
    players = prompt_players(tokenizer, prompt)
    n = prompt.n_itp_features
    masks = torch.tensor([[bool(subset >> i & 1) for i in range(n)] for subset in range(1 << n)])
    for mask, ids, seen in zip(masks, *players.masked(0, masks), strict=True):
        assert ids[seen.bool()].tolist() == tokenizer(prompt.to_model_input(mask[None].double()))["input_ids"]


def test_values_of_a_template_with_their_masks():
    assert prompt_players(paris_bytes(), TextTemplateInput("{} {}a", ["P", "Pa"], ["Pa", "a"], mask=[0, 0])).labels == (
        ("P Pa",),
    )


def test_from_a_chat_to_interactions(tokenizer):
    model = tiny_causal("llama", vocab_size=len(tokenizer))
    players = prompt_players(tokenizer, CHAT, words=["why", "good"], baseline="^")
    says = Continuation(model, "no", tokenizer)
    found = AndOrInteraction(says, score="log_prob").attribute(players)[0]
    ids = torch.tensor([tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)])
    with torch.no_grad():
        assert found.v_full == pytest.approx(float(torch.nn.functional.logsigmoid(says(ids))), abs=1e-5)
    assert found.players == ("good", "why")


def test_from_a_template_of_captum_to_interactions(tokenizer):
    prompt = TextTemplateInput("a {} user is {} bad", ["good", "not a"], ["bad", ""])
    says = Continuation(tiny_causal("llama", vocab_size=len(tokenizer)), " user", tokenizer)
    found = AndOrInteraction(says, score="logit").attribute(prompt_players(tokenizer, prompt))[0]
    for subset, value in enumerate(found.values):
        text = prompt.to_model_input(torch.tensor([[subset & 1, subset >> 1]]).double())
        with torch.no_grad():
            expected = says(tokenizer(text, return_tensors="pt").input_ids)
        assert float(value) == pytest.approx(float(expected), abs=1e-5)
    assert all(check.holds is not False for check in check_model(says, prompt, score="logit", verbose=False))


@pytest.mark.parametrize(
    ("prompt", "options", "error", "message"),
    [
        (7, {}, TypeError, "a text, a list of messages, or an input of Captum; got a int"),
        ([], {}, TypeError, "a list of messages"),
        (["a", "b"], {}, TypeError, "prompt must be one prompt; got a list of texts. Make players of each"),
        ([{"role": "user"}], {}, TypeError, r"message 0 must be \{\"role\""),
        ([{"role": "user", "content": [{"type": "text"}]}], {}, TypeError, "message 0 must be"),
        (CHAT, {"roles": ["tool"]}, ValueError, r"roles must name a role of the messages; got \['tool'\]"),
        (CHAT, {"max_length": 5}, ValueError, "the prompt has .* tokens, the limit is 5"),
        (CHAT, {"chat_template": "{{ messages[1]['content'] | upper }}"}, ValueError, "got part 0|got part 1"),
        (
            CHAT[1:2],
            {"chat_template": "{{ messages[0]['content'] | upper }}"},
            ValueError,
            "the chat template changes the messages",
        ),
        (
            TextTemplateInput("{}", ["a"]),
            {"words": [0]},
            ValueError,
            "a TextTemplateInput .*Leave out words",
        ),
        (TextTemplateInput("{}", ["a"]), {"baseline": "^"}, ValueError, "Leave out baseline"),
        (TextTemplateInput("g{}d", ["oo"]), {}, ValueError, "share tokens"),
        (TextTemplateInput("{0} {0}", ["a"]), {}, ValueError, "got part 0 2 times"),
    ],
)
def test_errors_say_what_to_do(tokenizer, prompt, options, error, message):
    with pytest.raises(error, match=message):
        prompt_players(tokenizer, prompt, **options)


def test_tokenizers_that_cannot(tokenizer):
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        prompt_players(paris_bytes(), CHAT)
    for prompt in (CHAT, TextTemplateInput("{}", ["a"])):
        with pytest.raises(ValueError, match="Letters returns no offsets"):
            prompt_players(Letters(), prompt, chat_template=CHAT_TEMPLATE)


# ---------------------------------------------------------------- opening and end tokens, white space

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
VICUNA = "{{ bos_token }}{% for m in messages %}USER: {{ m['content'] }} {% endfor %}ASSISTANT:"
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.mark.parametrize("template", [MISTRAL, VICUNA, GEMMA], ids=["mistral", "vicuna", "gemma"])
@pytest.mark.parametrize("make", [byte_fallback, byte_bpe, sentence_pieces])
@pytest.mark.parametrize("content", ["it is good", "it is good\n", "it  is\n\ngood  ", "\n it is good"])
def test_white_space_of_a_chat_is_not_a_player(make, template, content):
    tokenizer = make()
    chat = [{"role": "user", "content": content}]
    players = prompt_players(tokenizer, chat, chat_template=template, baseline="t")
    assert players.labels == (("it", "is", "good"),)
    ids = tokenizer.apply_chat_template(chat, chat_template=template, return_dict=False, add_generation_prompt=True)
    assert players.inputs[0].tolist() == [ids]


LLAMA_3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are it.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n"
    "{% endfor %}"
)
PHI = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'].rstrip() }}<|end|>{% endfor %}<|assistant|>"


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, LLAMA_3, QWEN, PHI, MISTRAL, GEMMA, STRIPPING])
@pytest.mark.parametrize("content", ["is it it\u0301 ?", "\nis it it\u0301 ?", "is it it\u0301 ?\n\n"])
def test_words_and_spans_of_a_chat_are_those_of_its_messages(tokenizer, template, content):
    chat = [{"role": "user", "content": content}, {"role": "assistant", "content": "it is"}]
    settings = {"chat_template": template, "baseline": "^"}
    players = prompt_players(tokenizer, chat, **settings)
    assert players.labels == (("is", "it", "it\u0301", "?"),)
    ids = tokenizer.apply_chat_template(chat, chat_template=template, return_dict=False, add_generation_prompt=True)
    assert players.inputs[0].tolist() == [ids]
    at = content.index("it")
    assert prompt_players(tokenizer, chat, **settings, units=[(at, at + 2)]).labels == (("it",),)
    assert prompt_players(tokenizer, chat, **settings, roles=["assistant"]).labels == (("it", "is"),)


def test_one_opening_token_where_a_rendered_chat_is_given_as_text():
    tokenizer = byte_fallback()
    text = tokenizer.apply_chat_template([{"role": "user", "content": "it is"}], chat_template=MISTRAL, tokenize=False)
    assert text.startswith("<s>")
    players = prompt_players(tokenizer, text, words=["it", "is"], baseline="t")
    assert players.inputs[0].tolist() == [tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert players.inputs[0].tolist()[0].count(tokenizer.bos_token_id) == 1
    assert prompt_players(tokenizer, "it is", baseline="t").inputs[0][0, 0] == tokenizer.bos_token_id


def test_the_end_token_of_a_tokenizer_is_left_out_of_a_prompt():
    for tokenizer, opening in ((word_level(), ["[CLS]"]), (sentence_pieces(), []), (byte_bpe(), ["<s>"])):
        players = prompt_players(tokenizer, "not a good scene", baseline=0)
        tokens = tokenizer.convert_ids_to_tokens(players.inputs[0][0].tolist())
        assert tokens == [*opening, *tokenizer.tokenize("not a good scene")]
        assert players.labels == (("not", "a", "good", "scene"),)
    written = prompt_players(word_level(), "not good [SEP]", baseline=0).inputs[0][0].tolist()
    assert word_level().convert_ids_to_tokens(written) == ["[CLS]", "not", "good", "[SEP]"]  # it is in the text


def test_the_end_token_is_left_out_of_the_inputs_of_captum():
    tokenizer = sentence_pieces()
    prompt = TextTokenInput("it is", tokenizer, baselines="t")
    players = prompt_players(tokenizer, prompt)
    assert prompt.inp_tensor[0, -1] == tokenizer.eos_token_id
    assert torch.equal(players.inputs[0], prompt.inp_tensor[:, :-1])
    assert players.labels == (tuple(prompt.values[:-1]),)
    template = prompt_players(tokenizer, TextTemplateInput("it {} good", ["is"], ["was"]))
    assert tokenizer.eos_token_id not in template.inputs[0]


def test_units_of_a_chat(tokenizer):
    assert prompt_players(tokenizer, CHAT, baseline="^", units="sentences").labels == (
        ("is the user not a good one ?", "why not"),
    )
    spans = prompt_players(tokenizer, CHAT, baseline="^", units=[[(3, 11)], [(4, 7)]])
    assert spans.labels == (("the user", "not"),)
    assert prompt_players(tokenizer, "why not", baseline="^", units=[(0, 7)]).labels == (("why not",),)


def test_a_pipeline_stands_for_its_tokenizer(tokenizer):
    model = tiny_causal("gpt2", vocab_size=len(tokenizer))
    pipeline = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    players = prompt_players(pipeline, "why not", baseline="^")
    assert players.labels == (("why", "not"),)
    assert Continuation(pipeline, " good").tokens.tolist() == tokenizer(" good")["input_ids"]
    assert Continuation(pipeline.model, " good", pipeline).text == " good"
    assert Continuation.predicted(pipeline, players).text is not None


# ---------------------------------------------------------------- templates


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize(
    "prompt",
    [
        TextTemplateInput("{} lives in {} now", ["Ada", "Paris"], ["It", "London"]),
        TextTemplateInput("I feel {} today", ["\U0001f641"], ["good"]),
    ],
    ids=["names", "emoji"],
)
def test_spaces_whose_offsets_are_trimmed(prompt, trim):
    tokenizer = byte_bpe(roberta=False, trim=trim)
    players = prompt_players(tokenizer, prompt)
    for present in (True, False):
        ids, seen = players.masked(0, torch.full((1, prompt.n_itp_features), present))
        text = prompt.to_model_input(torch.full((1, prompt.n_itp_features), float(present)).double())
        assert ids[0][seen[0].bool()].tolist() == tokenizer(text)["input_ids"]


def test_random_baselines_of_a_template_are_drawn_once(tokenizer):
    many = ProductBaselines({"name": ["the", "one"], "how": ["bad", "nice"]})
    prompt = TextTemplateInput("{name} is {how} now", {"name": "user", "how": "good"}, many)
    for _ in range(5):
        players = prompt_players(tokenizer, prompt)
        drawn = players.description["baseline"].split(" | ")
        assert drawn[0] in ("the", "one")
        assert drawn[1] in ("bad", "nice")
        ids, seen = players.masked(0, torch.tensor([[False, False], [True, False]]))
        assert tokenizer.decode(ids[0][seen[0].bool()]) == f"{drawn[0]} is {drawn[1]} now"
        assert tokenizer.decode(ids[1][seen[1].bool()]) == f"user is {drawn[1]} now"
