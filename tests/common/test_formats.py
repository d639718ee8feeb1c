# ruff: noqa: RUF001 -- words of other scripts are what is tested
import pytest

from captum_lkn._common.formats import columns, printable, shortened


@pytest.mark.parametrize("word", ["می\u200cخواهم", "👩\u200d👩\u200d👧", "l'été\u00a0:", "नमस्ते", "日\u3000本"])
def test_words_of_all_scripts_are_printed_as_they_are_spelled(word):
    assert printable(word) == word


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\ud800", r"\ud800"),
        ("a\u2028b", r"a\u2028b"),
        ("\u202eb", r"\u202eb"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("नमस्ते", 4), ("ไม่", 2), ("می\u200cخواهم", 7)]
)
def test_marks_and_joiners_take_no_column(text, width):
    """The Devanagari word has four letters and two signs, of which one stands in a column of its own."""
    assert columns(text) == width


def test_a_text_is_cut_by_columns():
    assert shortened("日本語の単語", 8) == "日本..."
    assert columns(shortened("नमस्ते नमस्ते", 7)) == 7
