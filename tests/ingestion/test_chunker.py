import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_os_diffusion.ingestion import Chunker, context_line, embedding_text, read_document


def count(texts):
    """A stand-in for a tokenizer: words and marks, longer words cost more."""
    return [sum(1 + len(word) // 8 for word in re.findall(r"\w+|[^\w\s]", text)) for text in texts]


LINE = st.text(st.sampled_from("abc XYZ.!?,|#-*`>_ \t0é漢字。"), max_size=60)
TEXT = st.lists(LINE, max_size=40).map("\n".join)
CUT = {"max_tokens": st.integers(4, 40), "text": TEXT}


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.py", "a.rs"])
@given(**CUT)
@settings(max_examples=60, deadline=None)
def test_every_line_of_a_passage_stands_at_its_lines(name, text, max_tokens):
    source = text.split("\n")
    for chunk in Chunker(count, max_tokens=max_tokens).chunk(read_document(name, text.encode())):
        lines = iter(source[chunk.line - 1 : chunk.end_line])
        wanted = [line.strip() for line in chunk.text.split("\n") if line.strip()]
        assert all(any(line in candidate for candidate in lines) for line in wanted)
        assert wanted[0] in source[chunk.line - 1]
        assert wanted[-1] in source[chunk.end_line - 1]


@pytest.mark.parametrize("name", ["a.txt", "a.rs"])
@given(**CUT)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_no_word_is_split(name, text, max_tokens):
    document = read_document(name, text.encode())
    atom = re.compile(r"[漢字]|[a-zA-Z0é_]+|[^\w\s]")
    wanted = atom.findall("\n".join(block.text for block in document.blocks))
    chunks = Chunker(count, max_tokens=max_tokens).chunk(document)
    found = iter(atom.findall("\n".join(chunk.text for chunk in chunks)))
    assert all(one in found for one in wanted)
    # Titles of short sections are text where these come together; nothing else is added.
    titles = {title for block in document.blocks for title in block.headings}
    added = sum(len(atom.findall(title)) for title in titles for chunk in chunks if title in chunk.text)
    assert len(atom.findall("\n".join(chunk.text for chunk in chunks))) <= len(wanted) + added


@given(**CUT)
@settings(max_examples=60, deadline=None)
def test_passages_keep_to_the_limit_unless_one_word_alone_exceeds_it(text, max_tokens):
    for chunk in Chunker(count, max_tokens=max_tokens).chunk(read_document("a.md", text.encode())):
        context = count([context_line(chunk.headings)])[0]
        budget = max(max_tokens - context, max_tokens // 2)
        assert count([chunk.text])[0] <= budget or len(re.findall(r"\w+|[^\w\s]", chunk.text)) == 1


def test_a_fence_that_fits_is_never_cut():
    fence = "```\n" + "\n\n".join(f"line {i}" for i in range(6)) + "\n```"
    text = "word " * 15 + "\n\n" + fence + "\n\n" + "word " * 15
    chunks = Chunker(count, max_tokens=24).chunk(read_document("a.md", text.encode()))
    assert any(fence in chunk.text for chunk in chunks)


def test_sections_are_cut_evenly():
    text = " ".join(f"This is sentence {i}." for i in range(21))
    chunks = Chunker(count, max_tokens=100).chunk(read_document("a.txt", text.encode()))
    sizes = count([chunk.text for chunk in chunks])
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= 10


def test_overlap_repeats_the_end_of_the_passage_before():
    text = " ".join(f"Sentence number {i} here." for i in range(40))
    chunks = Chunker(count, max_tokens=30, overlap=10).chunk(read_document("a.txt", text.encode()))
    assert len(chunks) > 3
    for before, after in itertools.pairwise(chunks):
        first = after.text.split(".")[0]
        assert first in before.text


def test_headings_are_embedded_in_front_of_the_text_and_count():
    document = read_document("a.md", b"# Title\n## Section\nbody text\n")
    (chunk,) = Chunker(count, max_tokens=50).chunk(document)
    assert chunk.text == "body text"
    assert embedding_text(chunk) == "Title > Section\nbody text"


def test_a_title_whose_words_the_next_one_repeats_is_not_embedded():
    assert (
        context_line(("shutil", "shutil — files and folders", "move")) == "shutil — files and folders > move"
    )
    assert context_line(("at", "What is new")) == "at > What is new"


def test_a_context_that_is_too_long_loses_its_outer_titles():
    assert context_line(("outer " * 20, "inner " * 20)) == "inner " * 20
    assert len(context_line(("x" * 500,))) == 160


@pytest.mark.parametrize(("max_tokens", "overlap"), [(1, 0), (10, 6), (10, -1)])
def test_limits_that_contradict_are_refused(max_tokens, overlap):
    with pytest.raises(ValueError, match="overlap"):
        Chunker(count, max_tokens=max_tokens, overlap=overlap)


NOTES = """# Notes

Of a week.

## Monday

Rain.


## Tuesday

Sun, {words}.

## Wednesday

Wind.
"""


def chunks_of(name, text, max_tokens=60):
    return Chunker(count, max_tokens=max_tokens).chunk(read_document(name, text.encode()))


def test_short_sections_come_together_with_their_titles_and_lines():
    (chunk,) = chunks_of("a.md", NOTES.format(words="warm"))
    assert chunk.headings == ("Notes",)
    assert chunk.text == "Of a week.\n\nMonday\n\nRain.\n\n\nTuesday\n\nSun, warm.\n\nWednesday\n\nWind."
    lines = NOTES.split("\n")
    for number, line in enumerate(chunk.text.split("\n"), chunk.line):
        assert lines[number - 1].removeprefix("## ") == line.replace("warm", "{words}")


def test_sections_that_are_long_enough_or_do_not_fit_stand_by_themselves():
    chunks = chunks_of("a.md", NOTES.format(words="very " * 52))
    assert [chunk.headings for chunk in chunks] == [
        ("Notes",),
        ("Notes", "Tuesday"),
        ("Notes", "Wednesday"),
    ]
    two = "# A\n\n" + "one two " * 10 + "\n\n# B\n\n" + "three four " * 10
    assert [chunk.headings for chunk in chunks_of("a.md", two)] == [("A",), ("B",)]


def test_short_sections_of_different_ones_stay_apart():
    text = "# A\n## B\n### C\n\none\n\n# D\n### E\n\ntwo"
    assert [chunk.text for chunk in chunks_of("a.md", text)] == ["one", "two"]


def test_a_title_that_its_text_says_stands_there_once():
    manual = "NAME\n    ls - list\n\nSYNOPSIS\n    SYNOPSIS of ls\n"
    (chunk,) = chunks_of("a.txt", manual)
    assert chunk.text == "NAME\n    ls - list\n\n\n    SYNOPSIS of ls"


def test_rows_of_tables_and_records_do_not_come_together_with_others():
    rows = '{"title": "a", "text": "one"}\n{"title": "b", "text": "two"}\n'
    assert [chunk.text for chunk in chunks_of("a.jsonl", rows)] == ["one", "two"]
    tables = "# A\n\n|x|\n|-|\n|1|\n\n# B\n\n|y|\n|-|\n|2|\n"
    assert len(chunks_of("a.md", tables)) == 2


def test_many_short_sections_share_the_calls_of_the_counter():
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return count(texts)

    document = read_document("a.md", "".join(f"# Title {i}\n\nOne.\n\n- two\n" for i in range(2000)).encode())
    assert len(Chunker(counted, max_tokens=40).chunk(document)) < 1000
    assert len(calls) < 20


def test_blocks_that_have_more_tokens_together_are_no_passage():
    def joins_cost(texts):
        return [len(text.split()) + 10 * text.count("\n\n") for text in texts]

    text = "".join(f"# Title {i}\n\none two\n\nthree\n\nfour five six\n\n" for i in range(5))
    chunks = Chunker(joins_cost, max_tokens=14).chunk(read_document("a.md", text.encode()))
    assert [chunk.text for chunk in chunks] == ["one two", "three", "four five six"] * 5
    assert [(chunk.line, chunk.end_line) for chunk in chunks][:4] == [(3, 3), (5, 5), (7, 7), (11, 11)]
