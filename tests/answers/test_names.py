import pytest

from ai_os_diffusion.answers.names import names_of, unknown_names
from ai_os_diffusion.answers.recall import RecallHit

NOTES = RecallHit("a", "The library opens at nine, the shop at ten.", 0.7, "notes.md", 1, 1, ("Elm Street",))


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("Which port does PostgreSQL use?", ["PostgreSQL"]),
        ("what is os.path.join, --limit-rate or MAX_SIZE?", ["os.path.join", "limit-rate", "MAX_SIZE"]),
        ("What does the library cost?", []),
        ("Python 3.12 or IPv6", ["3.12", "IPv6"]),
        ("IPv6 what?", ["IPv6"]),
        ("", []),
    ],
)
def test_names_have_capitals_digits_or_marks(question, names):
    assert names_of(question) == names


def test_names_stand_in_passages_titles_or_names_of_documents():
    names = ["Elm", "LIBRARY", "notes.md", "PostgreSQL", "PostgreSQL"]
    assert unknown_names(names, [NOTES]) == ["PostgreSQL"]
    assert unknown_names(names[:1], []) == ["Elm"]
