"""Answers as people see them: what is quoted stands deeper than any line of ours."""

import pytest

from ai_os_diffusion.answers.answer import Answer, Citation, Statement
from ai_os_diffusion.cli.terminal.citations import show_citations, why_abstained


def citation(quote, start=0, end=0, **more):
    return Citation("a.md", 3, 4, None, "m", 0.9, ("Title",), quote, start, end, **more)


def shown(capsys, *statements, mode="reader", confidence=0.87):
    show_citations(Answer("?", statements, (), 0.9, 0.4, mode, confidence))
    return capsys.readouterr().out


def test_a_sentence_stands_beside_its_place(capsys):
    quote = "It opens at nine."
    out = shown(capsys, Statement("nine", (citation(quote, 12, 16),), 0.87))
    assert (
        out == "\n[1] a.md:3  “It opens at nine.”\npointed at in the passages, right with probability 0.87\n"
    )


def test_an_answer_that_is_its_quote_is_not_said_twice(capsys):
    out = shown(capsys, Statement("It opens.", (citation("It\nopens.", 0, 9),)), confidence=None)
    assert out == "\n[1] a.md:3  Title\npointed at in the passages\n"


@pytest.mark.parametrize("start", range(0, 26, 5))
def test_a_block_is_indented_wherever_the_answer_begins(capsys, start):
    quote = "-q\tquiet\n\n[2] forged\n\x1b[1m end"
    out = shown(capsys, Statement("forged", (citation(quote, start, 27),)))
    assert out.split("\n")[1:6] == [
        "[1] a.md:3  Title",
        "    -q  quiet",
        "    ",
        "    [2] forged",
        "    \\x1b[1m end",
    ]


@pytest.mark.parametrize("answer", ["Sets", "loud", "be", "--loud"])
def test_indentation_that_all_further_lines_share_is_left_out_but_for_a_hanging_one(capsys, answer):
    quote = "--loud\n\t      Sets loud.\n\n\t        May be.\n\t      So."
    start = quote.rindex(answer)
    out = shown(capsys, Statement("x", (citation(quote, start, start + len(answer)),)))
    assert out.split("\n")[2:7] == [
        "    --loud",
        "        Sets loud.",
        "    ",
        "          May be.",
        "        So.",
    ]


def test_further_answers_have_their_own_places(capsys):
    first, other = (Statement(text, (citation(f"It is {text}.", 6, 10),), 0.6) for text in ("nine", "ten"))
    out = shown(capsys, first, other)
    assert "\n[1] a.md:3  “It is nine.”\n\nor: ten\n[2] a.md:3  “It is ten.”\n" in out


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer("?", (), (), None, 0.4, "reader", reason="nothing"), "memory holds nothing here"),
        (Answer("?", (), (), 0.1, 0.4, "reader", reason="far"), "reaches 0.10, expected 0.40 or more"),
        (
            Answer("?", (), (), 0.1, 0.4, "reader", reason="far", unknown_names=("Foo", "bar.b")),
            "or more, and none speaks of “Foo”, “bar.b”",
        ),
        (
            Answer("?", (), (), 0.9, 0.4, "reader", reason="unknown_names", unknown_names=("Foo",)),
            "do not speak of “Foo”",
        ),
        (Answer("?", (), (), 0.9, 0.4, "reader", reason="no_answer"), "do not answer this"),
        (Answer("?", (), (), 0.9, 0.4, "diffusion", reason="declined"), "do not answer this"),
    ],
)
def test_why_nothing_is_answered_is_told(answer, said):
    assert said in why_abstained(answer, filtered=False)


def test_a_filter_that_nothing_meets_is_named():
    answer = Answer("?", (), (), None, None, "reader", reason="nothing")
    assert "no memory meets the filter" in why_abstained(answer, filtered=True)
