"""What is shown of a passage is what can be understood by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.answers.passage_block import block_at, blocks_of

PROSE = "Roses are cut in March. The lawn is mown\nevery Saturday. Water both.\n\nThe gate sticks."
LIST = "Before you leave:\n- turn off the gas\n- lock the door,\n  also the back one\n- feed the cat"
OPTIONS = (
    "       -r, --limit-rate RATE\n              Use at most so much.\n\n              Units may follow.\n"
    "       -q, --quiet\n              Say nothing."
)
OPTION = OPTIONS[: OPTIONS.index("       -q")].strip()
TABLE = "| part | price |\n|---|---:|\n| boiler | 12 |\n| pump | 7 |"
ROWS = "part: boiler | price: 12\npart: pump | price: 7"
CODE = 'def mend(fence):\n    """Mend a fence."""\n    return fence\n\ndef other():\n    pass'


@pytest.mark.parametrize(
    ("text", "answer", "shown"),
    [
        (PROSE, "March", "Roses are cut in March."),
        (PROSE, "mown", "The lawn is mown\nevery Saturday."),
        (PROSE, "March. The lawn", "Roses are cut in March. The lawn is mown\nevery Saturday."),
        (PROSE, "gate", "The gate sticks."),
        (LIST, "gas", "- turn off the gas"),
        (LIST, "back", "- lock the door,\n  also the back one"),
        (LIST, "Before", "Before you leave:"),
        (OPTIONS, "most", OPTION),
        (OPTIONS, "--limit-rate", OPTION),
        (OPTIONS, "Units", OPTION),
        (OPTIONS, "nothing", "-q, --quiet\n              Say nothing."),
        (TABLE, "12", "| boiler | 12 |"),
        (TABLE, "pump", "| pump | 7 |"),
        (ROWS, "7", "part: pump | price: 7"),
        (CODE, "fence)", 'def mend(fence):\n    """Mend a fence."""\n    return fence'),
        ("", "", ""),
    ],
)
def test_an_answer_is_shown_in_its_own_part(text, answer, shown):
    start = text.index(answer)
    block = block_at(text, start, start + len(answer))
    assert text[block.start : block.end] == shown


def test_a_row_is_shown_below_the_names_of_its_columns():
    at = TABLE.index("pump")
    assert block_at(TABLE, at, at + 4).header == "| part | price |"
    assert block_at(ROWS, 3, 4).header == block_at(PROSE, 3, 4).header == ""
    assert block_at(TABLE, 2, 6).header == ""


@given(st.text(alphabet=" \t\n-*|a.B1)", max_size=60), st.data())
def test_a_part_holds_the_place_and_parts_are_apart(text, data):
    if text.strip():
        at = data.draw(st.sampled_from([at for at, letter in enumerate(text) if not letter.isspace()]))
        block = block_at(text, at, at + 1)
        assert 0 <= block.start <= at < block.end <= len(text)
        shown = text[block.start : block.end]
        assert shown == shown.strip()
    end = 0
    for block in blocks_of(text):
        assert end <= block.start < block.end
        assert not text[end : block.start].strip()
        end = block.end
    assert not text[end:].strip()


def test_widely_prose_is_shown_with_what_follows_and_what_stands_before():
    text = "Mail is sent.\nNone is where the name is empty. It can be set. It is read once.\n\nAnother part."
    start = text.index("None")
    block = block_at(text, start, start + 4, widely=True)
    assert text[block.start : block.end] == text[: text.index("\n\n")]
    narrow = block_at(text, start, start + 4)
    assert text[narrow.start : narrow.end] == "None is where the name is empty."


def test_of_a_long_paragraph_only_so_much_is_shown_from_the_sentence_on():
    sentences = [f"Sentence {number} says nothing of any weight at all." for number in range(30)]
    text = " ".join(sentences)
    start = text.index("Sentence 12 ")
    block = block_at(text, start, start + 8, widely=True)
    shown = text[block.start : block.end]
    assert shown.startswith("Sentence 12 ")
    assert shown.endswith(".")
    assert 400 < len(shown) <= 500


def test_an_option_is_the_same_however_widely_it_is_shown():
    text = "-a\n    Takes all.\n\n    Really.\n\n-b\n    Takes both."
    assert block_at(text, 8, 12, widely=True) == block_at(text, 8, 12)
