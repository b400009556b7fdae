"""Plain text whose structure is its indentation: manual pages, help texts, glossaries."""

import random

import pytest

from ai_os_diffusion.ingestion import Ingestor, read_document
from ai_os_diffusion.ingestion.kinds import title_of

MANUAL = """\
LS(1)                            User Commands                           LS(1)

NAME
       ls - list directory contents

OPTIONS
       Mandatory arguments to long options are mandatory for short options in
       every case.

       -a, --all
              do not ignore entries starting with a dot, which are hidden from
              those who look

       -t     sort by time, newest first; files of the same second are sorted by
              their name
       -x
              list entries by lines

   Exit status
       0      if all is well,

       1      if there are minor prob\u2010
              lems.
"""


def blocks(text, name="ls.1.txt"):
    return [(block.headings, block.text) for block in read_document(name, text.encode()).blocks]


def words(texts):
    return [len(text.split()) for text in texts]


def test_a_line_above_deeper_ones_is_the_title_of_its_section():
    found = blocks(MANUAL)
    assert [headings for headings, _ in found] == [
        (),
        ("NAME",),
        *[("OPTIONS",)] * 4,
        *[("OPTIONS", "Exit status")] * 2,
    ]


def test_an_item_ends_where_the_next_begins_and_holds_its_term():
    items = [text.split()[0] for headings, text in blocks(MANUAL) if headings == ("OPTIONS",)]
    assert items == ["Mandatory", "-a,", "-t", "-x"]
    assert "those who look" in next(text for _, text in blocks(MANUAL) if "--all" in text)


def test_words_that_typesetting_broke_are_whole_and_lines_stay():
    *_, last = read_document("ls.1.txt", MANUAL.encode()).blocks
    assert "minor problems." in last.text
    assert last.is_aligned
    # Where the same hyphen stands within words, one at the end of a line may be the word's own.
    assert "prob\u2010\n" in blocks(MANUAL.replace("--all", "\u2010\u2010a\u2010ll"))[-1][1]


@pytest.mark.parametrize(
    "text",
    [
        # A line that was full, one that leads over, and an item whose lines hang below its first.
        "The licence of this work is granted to you by its holders, and\n   nothing else is.",
        "Run this in the folder of the project:\n    make test",
        "- one thing that takes more than the line that it has, as lines\n  are short",
        # Items of which a line is short of the width.
        "* gpg: one window is shown\n  [T4971]",
        "b.  One thing is shorter\n    than it could be",
        # The first line of a paragraph set in.
        "   It is set in\nand goes on.",
    ],
)
def test_other_lines_above_deeper_ones_are_text(text):
    assert [headings for headings, _ in blocks(f"{'word ' * 12}end\n\n{text}\n")] == [()] * len(
        blocks(f"a\n\n{text}")
    )
    assert {word for _, block in blocks(text) for word in block.split()} == set(text.split())


def test_underlined_titles_stand_above_those_that_stand_out():
    text = "Manual\n======\n\nFILES\n   /etc/passwd\n\nMore\n====\n\nend of the manual\n"
    assert blocks(text) == [(("Manual", "FILES"), "   /etc/passwd"), (("More",), "end of the manual")]


def test_no_word_of_an_indented_text_is_lost():
    rng = random.Random(7)
    for _ in range(300):
        lines = [
            " " * rng.choice((0, 0, 2, 4, 7, 9)) + f"w{n}" * rng.randint(1, 3)
            for n in range(rng.randint(1, 25))
        ]
        text = "\n".join(line if rng.random() < 0.8 else f"{line}\n" for line in lines)
        found = read_document("a.txt", text.encode()).blocks
        said = {word for block in found for part in (block.text, *block.headings) for word in part.split()}
        assert said == set(text.split())
        assert all(block.is_aligned for block in found)


def test_steps_without_end_are_read():
    text = "\n".join(" " * (2 * (n % 500) + (n % 2)) + "x" for n in range(4000))
    assert read_document("a.txt", text.encode()).blocks


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ls.1.txt.gz", "ls.1"),
        ("GPL-2.0", "GPL-2.0"),
        ("wait.py", "wait.py"),
        ("Plan.MD", "Plan"),
        (".txt", ".txt"),
    ],
)
def test_what_a_name_says(name, title):
    assert title_of(name) == title


def test_a_line_above_one_that_stands_as_texts_do_is_a_title_also_at_the_beginning_of_a_section():
    manual = "NAME\n       wget - fetches\n\nOPTIONS\n   Start\n       -b\n           Goes on alone.\n"
    blocks = read_document("a.txt", manual.encode()).blocks
    assert [block.headings for block in blocks] == [("NAME",), ("OPTIONS", "Start")]
    manual = "NAME\n       ls - lists\n\nOPTIONS\n       -a\n           Shows all.\n"
    blocks = read_document("a.txt", manual.encode()).blocks
    assert [block.headings for block in blocks] == [("NAME",), ("OPTIONS",)]


def test_the_name_stands_above_passages_unless_the_format_has_a_title():
    def titles(name, text):
        return {chunk.headings for chunk in Ingestor(words, max_tokens=60).open(name, text.encode()).chunks()}

    assert titles("docs/prices.txt", "bread 3") == {("prices",)}
    assert titles("prices.md", "# Prices\n\nbread 3") == {("prices", "Prices")}
    assert titles("prices.md", "# Shop\n\nbread 3") == {("prices", "Shop")}
    assert titles("a.html", "<title>Shop</title><p>bread 3") == {("Shop",)}
    assert titles("a.html", "<p>bread 3") == {("a",)}
