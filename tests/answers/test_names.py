import pytest

from ai_os_diffusion.answers.names import names_of, says_title, unknown_names
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
        ("how do I stop the 2 pumps of C?", []),
        ("", []),
    ],
)
def test_names_have_capitals_digits_or_marks(question, names):
    assert names_of(question) == names


def test_names_stand_in_passages_titles_or_names_of_documents():
    names = ["Elm", "LIBRARY", "notes.md", "PostgreSQL", "PostgreSQL"]
    assert unknown_names(names, [NOTES]) == ["PostgreSQL"]
    assert unknown_names(names[:1], []) == ["Elm"]


@pytest.mark.parametrize("question", ["Wie oft probiert wget es?", "WGET: 何回", "wget.1 ?"])
def test_a_question_says_a_title_when_it_has_all_words_of_it(question):
    assert says_title(question, ["wget.1", "OPTIONS"])
    assert not says_title(question, ["wget manual", "wget"])


@pytest.mark.parametrize("headings", [None, [], "wget", 7, [7], [""], ["1"]])
def test_what_is_no_title_is_said_nowhere(headings):
    assert not says_title("wget 1 7", headings)
