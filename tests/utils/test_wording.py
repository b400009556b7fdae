import pytest

from ai_os_diffusion.utils.wording import counted


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [
        (1, "passage", "1 passage"),
        (0, "passage", "0 passages"),
        (2, "memory", "2 memories"),
        (1, "memory", "1 memory"),
        (3, "day", "3 days"),
    ],
)
def test_the_noun_agrees_with_the_count(count, noun, expected):
    assert counted(count, noun) == expected
