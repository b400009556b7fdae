import pytest

from ai_os_diffusion.cli.terminal.output import size_text


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
