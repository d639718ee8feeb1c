"""Units of a text: the same for a reader under every kind of tokenizer."""

import functools
import warnings
from itertools import pairwise

import pytest
import regex
import tiny_tokenizers as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_lkn.players.text import text_players
from captum_lkn.players.units import spans_of

TOKENIZERS = {
    "WordPiece": tiny.word_pieces,
    "Unigram": tiny.sentence_pieces,
    "byte BPE": tiny.byte_bpe,
    "byte BPE, untrimmed": functools.partial(tiny.byte_bpe, trim=False),
    "byte fallback": tiny.byte_fallback,
    "characters": tiny.characters,
}
every_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)


def players_of(kind, text, **settings):
    """Players of a text, whatever is warned of: some tokenizers know no mask token, or few characters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return text_players(TOKENIZERS[kind](), text, **settings)


def labels_of(kind, text, **settings):
    return list(players_of(kind, text, **settings).labels[0])


def tokens_of(kind, players, player):
    ids = players.inputs[0][0][players.owners[0][0] == player].tolist()
    return TOKENIZERS[kind]().convert_ids_to_tokens(ids)


# ---------------------------------------------------------------- words of a text

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
READ = [
    ("It isn't so", ["It", "isn't", "so"]),
    ("it was good, not great.", ["it", "was", "good", ",", "not", "great", "."]),
    ('"it was good", he said: it is.', ['"', "it", "was", "good", '"', ",", "he", "said", ":", "it", "is", "."]),
    ("well-made l'été 3.14 1,000 x_y", ["well", "-", "made", "l'été", "3.14", "1,000", "x_y"]),
    ("so\u2019t ... !! ?!", ["so\u2019t", "...", "!!", "?", "!"]),
    ("re\u0301sume\u0301 or resume", ["re\u0301sume\u0301", "or", "resume"]),
    ("नहीं अच्छी", ["नहीं", "अच्छी"]),
    ("العَرَبيّة جميلة", ["العَرَبيّة", "جميلة"]),
    ("한국어 영화", ["한국어", "영화"]),
    (f"{FAMILY} \u2639\ufe0f ok", [FAMILY, "\u2639\ufe0f", "ok"]),
    ("\U0001f1eb\U0001f1f7 3\ufe0f\u20e3", ["\U0001f1eb\U0001f1f7", "3\ufe0f\u20e3"]),
    ("a\u00a0b\u3000c\u200bd \ufeff e", ["a", "b", "c", "d", "e"]),
    ("\u202eit\u202c is \u200f so\u2069", ["it", "is", "so"]),
]  # fmt: skip


@every_tokenizer
@pytest.mark.parametrize(("text", "words"), READ, ids=range(len(READ)))
def test_words_are_those_that_a_reader_sees(kind, text, words):
    assert labels_of(kind, text) == words


@every_tokenizer
@pytest.mark.parametrize("units", ["words", "pre-tokens", "sentences"])
def test_line_breaks_are_background(kind, units):
    players = players_of(kind, "it is good.\n\nit was\n", units=units)
    for player in range(len(players.labels[0])):
        assert not any(mark in token for token in tokens_of(kind, players, player) for mark in ("0x0A", "Ċ", "\n"))


@every_tokenizer
def test_all_occurrences_of_a_word_are_found_beside_punctuation(kind):
    text = "it was good, not great. (it is it)"
    assert labels_of(kind, text, words=["it", "good"]) == ["it", "good", "it", "it"]
    assert labels_of(kind, text, stop_words=["it", "is"], punctuation=False) == ["was", "good", "not", "great"]


@every_tokenizer
def test_composed_and_decomposed_names_are_one(kind):
    for written, named in (("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "CAF\u00c9"), ("don\u2019t", "don't")):
        assert labels_of(kind, f"the {written} was", words=[named]) == [written]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("WordPiece", list("这部电影一点也不好看")),
        ("characters", list("这部电影一点也不好看")),
        ("byte BPE", ["这部", "电影", "一点", "也", "不", "好", "看"]),
        ("byte fallback", ["这部", *"电影一点也不好看"]),
    ],
)
def test_chinese_words_are_tokens_of_whole_characters(kind, words):
    assert labels_of(kind, "这部电影一点也不好看") == words
    for text in ("หนังเรื่องนี้ไม่ดี", "これは映画です"):
        players = players_of("byte BPE", text)
        assert list(players.labels[0]) == regex.findall(r"\X", text)


@pytest.mark.parametrize("letter", ["č", "ċ", "ĉ", "ġ", "▁"])
def test_letters_that_look_like_a_tokenizer_s_white_space_are_words(letter):
    tokenizer = tiny.word_level([letter, "a"])
    assert text_players(tokenizer, f"a {letter} a").labels == (("a", letter, "a"),)


def test_an_unknown_token_of_several_words_is_warned_of():
    tokenizer = tiny.sentence_pieces()
    with pytest.warns(UserWarning, match=r"one unknown token for '.*映画.*', which is one player therefore"):
        players = text_players(tokenizer, "映画 good")
    assert players.labels == (("映画", "good"),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_players(tokenizer, "نعم good")  # one word


# ---------------------------------------------------------------- other units


def test_tokens():
    assert labels_of("WordPiece", "isn't e\u0301", units="tokens") == ["is", "n", "'", "t", "e\u0301"]
    assert labels_of("byte BPE", "a é", units="tokens") == ["a", "Ã", "©"]  # two of one character
    assert labels_of("Unigram", " 电  影", units="tokens") == ["电", "影"]


def test_the_words_of_the_tokenizer():
    assert labels_of("WordPiece", "isn't it", units="pre-tokens") == ["isn", "'", "t", "it"]
    assert labels_of("byte BPE", "don't it", units="pre-tokens") == ["don", "'t", "it"]
    assert labels_of("byte fallback", "good, it is", units="pre-tokens") == ["good,", "it", "is"]


def test_characters_as_far_as_tokens_divide_them():
    assert labels_of("characters", "e\u0301 not", units="characters") == ["e\u0301", "n", "o", "t"]
    assert labels_of("byte BPE", "é it", units="characters") == ["é", "it"]
    assert labels_of("byte BPE", "是电影", units="characters") == ["是", "电影"]


@every_tokenizer
def test_sentences(kind):
    text = 'it was good. "it is!" he said...\nnot a scene at 3.14 这部电影。也不好看'
    assert labels_of(kind, text, units="sentences") == [
        "it was good.",
        '"it is!"',
        "he said...",
        "not a scene at 3.14 这部电影。",
        "也不好看",
    ]


def test_given_spans():
    text = "这部电影一点也不好看"
    players = players_of("byte BPE", text, units=[(7, 8), (2, 4)])
    assert players.labels == (("电影", "不"),)
    assert tokens_of("byte BPE", players, 0) == TOKENIZERS["byte BPE"]().tokenize("电影")
    assert players.description["players"] == "spans"
    assert labels_of("byte BPE", text, units=[(2, 3)]) == ["电影"]  # to the end of its token
    two = players_of("byte BPE", ["it is", "so good"], units=[[(0, 2)], [(0, 7)]])
    assert two.labels == (("it",), ("so good",))
    assert labels_of("byte BPE", ("it is", "so good"), units=[[(3, 5)], [(0, 2)]]) == ["is", "so"]
    pairs = players_of("byte BPE", [("it", "so"), ("is", "in")], units=[[[(0, 2)], []], [[], [(0, 2)]]])
    assert pairs.labels == (("it",), ("in",))
    assert labels_of("byte BPE", "it is so", units=[(0, 2), (3, 5)], words=["is"]) == ["is"]


@pytest.mark.parametrize(
    ("units", "error", "message"),
    [
        ("letters", ValueError, "units must be one of words, pre-tokens, .* got 'letters'"),
        (3, TypeError, "units must be one of .* got a int"),
        ([(0, 2.5)], TypeError, r"pairs \(start, end\) of ints; got \(0, 2.5\)"),
        ([(0, 20)], ValueError, r"spans from 0 to 8, .* got \(0, 20\)"),
        ([(2, 2)], ValueError, r"spans from 0 to 8, .* got \(2, 2\)"),
        ([(0, 3), (2, 5)], ValueError, r"do not overlap; got \(0, 3\) and \(2, 5\)"),
        ([[(0, 3)], [(2, 5)]], ValueError, r"units must be a list of pairs \(start, end\); got"),
        ([(2, 3)], ValueError, r"\(2, 3\), ' ', has none"),
        ([(3, 5), (5, 8)], ValueError, "share the token 'Ġgood', which cannot be divided"),
    ],
    ids=str,
)
def test_wrong_units(units, error, message):
    with pytest.raises(error, match=message):
        text_players(tiny.byte_bpe(), "it good!", units=units)


def test_a_slow_tokenizer_has_tokens_only():
    assert text_players(tiny.Letters(), "ab c", units="tokens").labels == (("a", "b", "c"),)
    with pytest.raises(ValueError, match=r'Letters returns no offsets\. Give a fast tokenizer, or units="tokens"'):
        text_players(tiny.Letters(), "ab c", units="sentences")


# ---------------------------------------------------------------- any text

LETTERS = st.sampled_from(
    [*"aetno.,'!3-_ \n", "\u0301", "é", "电", "影", "ก", "ี", "น", "\u200d", "\U0001f600", "ي", "ّ", "한"]
)


@every_tokenizer
@pytest.mark.parametrize("units", ["words", "pre-tokens", "characters", "sentences", "tokens"])
@given(text=st.text(LETTERS, min_size=1, max_size=12).filter(lambda text: regex.search(r"[aetno3电影กน한]", text)))
def test_units_divide_a_text(kind, units, text):
    players = players_of(kind, text, units=units)
    labels, owners = players.labels[0], players.owners[0][0]
    assert sorted(set(owners.tolist()) - {-1}) == list(range(len(labels)))  # each has a token
    special = torch.isin(players.inputs[0][0], torch.tensor(TOKENIZERS[kind]().all_special_ids)) & (
        players.inputs[0][0] != TOKENIZERS[kind]().unk_token_id
    )
    assert (owners[special] == -1).all()
    assert not any(label != label.strip() or not label for label in labels)
    if units != "tokens":
        at = 0
        for label in labels:  # cut out of the text, one behind the other
            at = text.index(label, at) + len(label)
        if units == "characters":
            ends = {end for _, end in spans_of("characters", text)}
            assert all(text.index(label) + len(label) in ends for label in labels if text.count(label) == 1)


@given(text=st.text(LETTERS, max_size=20))
def test_spans_hold_all_but_white_space(text):
    for kind in ("words", "characters", "sentences"):
        spans = spans_of(kind, text)
        assert all(a < b for a, b in spans)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
        outside = set(range(len(text))) - {i for a, b in spans for i in range(a, b)}
        assert not {text[i] for i in outside} - set(" \n\u200d\u0301ّี")
