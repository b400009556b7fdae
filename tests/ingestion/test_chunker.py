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
    assert atom.findall("\n".join(chunk.text for chunk in chunks)) == wanted


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


def test_a_context_that_is_too_long_loses_its_outer_titles():
    assert context_line(("outer " * 20, "inner " * 20)) == "inner " * 20
    assert len(context_line(("x" * 500,))) == 160


@pytest.mark.parametrize(("max_tokens", "overlap"), [(1, 0), (10, 6), (10, -1)])
def test_limits_that_contradict_are_refused(max_tokens, overlap):
    with pytest.raises(ValueError, match="overlap"):
        Chunker(count, max_tokens=max_tokens, overlap=overlap)


def test_many_short_sections_share_the_calls_of_the_counter():
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return count(texts)

    document = read_document("a.md", "".join(f"# Title {i}\n\nOne.\n\n- two\n" for i in range(2000)).encode())
    assert len(Chunker(counted, max_tokens=40).chunk(document)) == 2000
    assert len(calls) < 20


def test_blocks_that_have_more_tokens_together_are_no_passage():
    def joins_cost(texts):
        return [len(text.split()) + 10 * text.count("\n\n") for text in texts]

    text = "".join(f"# Title {i}\n\none two\n\nthree\n\nfour five six\n\n" for i in range(5))
    chunks = Chunker(joins_cost, max_tokens=14).chunk(read_document("a.md", text.encode()))
    assert [chunk.text for chunk in chunks] == ["one two", "three", "four five six"] * 5
    assert [(chunk.line, chunk.end_line) for chunk in chunks][:4] == [(3, 3), (5, 5), (7, 7), (11, 11)]
