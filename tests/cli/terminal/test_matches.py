import pytest

from ai_os_diffusion.cli.terminal.matches import Matches

PASSAGE = "In February the rosé is cut. The frost is over then, and the shears are the sharp ones."


def strong(question, text, *others):
    return [
        piece
        for line in Matches(question, [text, *others]).lines(text)
        for piece, is_strong in line
        if is_strong
    ]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("when do I cut the ROSE?", ["rosé", "cut"]),
        ("what of february", ["February"]),
        ("of what are the shears?", ["shears"]),
        ("shear sharpness", ["shears", "sharp"]),
        ("a tortoise", []),
        ("", []),
        ("?!", []),
    ],
)
def test_words_of_the_question_stand_out_in_every_form(question, words):
    assert strong(question, PASSAGE) == words


def test_ideographs_are_compared_two_by_two():
    assert strong("玫瑰什么时候剪?", "二月剪玫瑰。") == ["玫瑰"]


def test_pieces_are_the_text():
    for text in ("", "a\n\nb", PASSAGE, "e\u0301 \u0301 玫瑰"):
        lines = Matches("cut rose a e 玫瑰", [text]).lines(text)
        assert "\n".join("".join(piece for piece, _ in line) for line in lines) == text


def test_a_short_passage_is_shown_whole():
    text = "\n".join(f"line {number}" for number in range(12))
    assert Matches("tortoises", [text]).excerpt(text, 80) == Matches("tortoises", [text]).lines(text)


@pytest.mark.parametrize("place", [0, 1, 20, 38, 39])
def test_of_a_long_passage_the_lines_that_match_are_shown(place):
    lines = [f"option {number} does this" for number in range(40)]
    lines[place] = "the limit of the rate is 5 MB"
    shown = Matches("what is the rate limit?", lines).excerpt("\n".join(lines), 80)
    texts = ["".join(piece for piece, _ in line) for line in shown if not isinstance(line, int)]
    assert lines[place] in texts
    assert len(texts) in (12, 13)
    assert len(texts) + sum(line for line in shown if isinstance(line, int)) == 40
    assert 1 not in shown


@pytest.mark.parametrize("first", [0, 7, 38])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_lines_that_answer_are_never_left_out(first, count):
    # All but the answer repeat the question's words.
    lines = [f"the rate limit {number} of the rate" for number in range(60)]
    lines[first : first + count] = [f"five megabytes {number}" for number in range(count)]
    text = "\n".join(lines)
    matches = Matches("what is the rate limit?", [text])
    assert matches.is_long(text, 80)
    shown = matches.excerpt(text, 80, range(first, first + count))
    texts = ["".join(piece for piece, _ in line) for line in shown if not isinstance(line, int)]
    assert [line for line in texts if line.startswith("five")] == lines[first : first + count]
    assert len(texts) <= max(13, count + 1)
