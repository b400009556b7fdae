import random
import re

import pytest

from ai_os_diffusion.cli.terminal.wrapping import LineWrapper, cells_of, is_styled, width_of

PIECES = (
    *("the", "a", "antidisestablishmentarianism", " ", "  ", "\n", "好的", "。", "（", "é", "e\u0301", ", "),
    *("👨\u200d👩\u200d👧", "/usr/share/doc", "\t"),
)
STYLE = re.compile(r"\x1b\[(\d)m")


def wrapped(pieces, width, indent="", **options):
    wrapper = LineWrapper(width, **options)
    return "".join(
        [*(wrapper.feed(piece, indent, strong=strong) for piece, strong in pieces), wrapper.finish()]
    )


def cut(text, chance):
    while text:
        size = chance.randint(1, 5)
        yield text[:size]
        text = text[size:]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("width", [1, 2, 9, 20, 33, 80])
def test_no_line_is_wider_and_no_letter_is_lost_wherever_a_text_is_cut(seed, width):
    chance = random.Random(seed)
    pieces = [chance.choice(PIECES) for _ in range(chance.randint(0, 30))]
    text = "".join(pieces)
    indent = " " * chance.choice((0, 2, 4))
    written = wrapped([(text, False)], width, indent)
    assert re.sub(r"\s", "", written) == re.sub(r"\s", "", text)
    # A character of two cells needs them.
    assert all(cells_of(line.rstrip()) <= max(width, 2) for line in written.split("\n"))
    assert wrapped([(piece, False) for piece in cut(text, chance)], width, indent) == written
    styled = wrapped([(piece, chance.random() < 0.3) for piece in pieces], width, indent, styled=True)
    assert STYLE.sub("", styled) == written
    for line in styled.split("\n"):
        switches = STYLE.findall(line)
        assert switches == ["1", "0"] * (len(switches) // 2)


def test_words_stay_whole_and_further_lines_are_indented():
    text = "how to cut the roses in spring"
    assert wrapped([(text, False)], 12, "  ") == "how to cut\n  the roses\n  in spring"


def test_a_word_that_no_line_holds_is_broken_where_it_stands():
    assert wrapped([("see /usr/share/documents", False)], 12, "  ") == "see /usr/sha\n  re/documen\n  ts"


def test_scripts_without_spaces_break_anywhere_but_before_what_closes():
    assert wrapped([("今日は、好い天気。", False)], 6) == "今日\nは、好\nい天\n気。"


def test_the_width_is_that_of_columns_or_of_the_terminal(monkeypatch, tmp_path):
    with (tmp_path / "out").open("w") as file:
        monkeypatch.delenv("COLUMNS", raising=False)
        assert width_of(file) is None
        for said, width in (("20", 20), ("0", None), ("wide", None), ("-5", None), ("²", None)):
            monkeypatch.setenv("COLUMNS", said)
            assert width_of(file) == width
        assert not is_styled(file)
