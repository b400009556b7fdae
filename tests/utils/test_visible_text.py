import itertools
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.utils.visible_text import VisibleLines, visible_json, visible_line, visible_text

# What acts on a terminal or on its neighbours, taken from Unicode's own properties.
ACTING = [
    character
    for character in map(chr, range(0x110000))
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    or unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
]
hostile = st.text(st.one_of(st.characters(), st.sampled_from(ACTING)))


def test_all_that_acts_is_written_out():
    for character in ACTING:
        shown = visible_line(f"a{character}b")
        assert shown.startswith("a\\")
        assert shown.endswith("b")
        assert shown.isprintable()
        if character not in "\t\n":
            assert visible_text(character) == visible_line(character)


@pytest.mark.parametrize(
    "text", ["Ünïcode", "日本語", "שלום \u200f", "👩\u200d🔬", "می\u200cخواهم", "a\\x1b", "soft\xadhyphen"]
)
def test_what_shows_something_stays(text):
    assert visible_line(text) == visible_text(text) == text


def test_escapes_read_as_in_python():
    assert visible_line("\x1b[2J\x9b\r\n\t\u202e\udc9b") == r"\x1b[2J\x9b\r\n\t\u202e\udc9b"


def test_lines_are_kept_and_indented():
    assert visible_text("a\n\n[1] b:3\n", indent="  ") == "a\n\n  [1] b:3\n"
    assert visible_text("a\n\tb") == "a\n\tb"


@given(hostile, st.lists(st.integers(0, 40)), st.sampled_from(["", "  "]))
def test_pieces_show_what_the_whole_shows(text, cuts, indent):
    lines = VisibleLines(indent)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert "".join(map(lines.feed, pieces)) == visible_text(text, indent)


@given(hostile)
def test_json_stays_the_same_value(text):
    for indent in (None, 2):
        document = visible_json(json.dumps({text: [text]}, ensure_ascii=False, indent=indent))
        assert not set(document) & (set(ACTING) - {"\n"})
        # Two lone surrogates may make one character in JSON, whoever escapes them.
        assert json.loads(document) == json.loads(json.dumps({text: [text]}))
