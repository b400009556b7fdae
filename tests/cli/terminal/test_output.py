import pytest

from ai_os_diffusion.cli.terminal.output import show_passage, size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (182_000_000, "182 MB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_sizes_are_decimal(size_bytes, text):
    assert size_text(size_bytes) == text


@pytest.mark.parametrize("start", range(12))
def test_what_stands_out_in_a_passage_moves_no_line_of_it(start, capsys):
    text = "one\n\ntwo\n\x1b[1m"
    show_passage(text)
    plain = capsys.readouterr().out
    assert plain == "    one\n\n    two\n    \\x1b[1m\n"
    for end in range(start, len(text) + 1):
        show_passage(text, (start, end))
        assert capsys.readouterr().out == plain
