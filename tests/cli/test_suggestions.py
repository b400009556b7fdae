import pytest

from ai_os_diffusion.cli.lazy import VERBS
from ai_os_diffusion.cli.suggestions import SYNONYMS, edit_distance, suggestions

GROUPS = {
    "memory": ("list", "show", "forget", "compact", "stats", "export", "import"),
    "skills": ("show", "ask", "rm"),
}
OWNED = [f"{group} {name}" for group, names in GROUPS.items() for name in names]


def slips(word):
    """What a hurried hand makes of a word."""
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]
        yield f"{word[:place]}q{word[place:]}"
        yield f"{word[:place]}q{word[place + 1 :]}"
        yield word[:place] + word[place : place + 2][::-1] + word[place + 2 :]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("recal", "recall", 1), ("aks", "ask", 1)],
)
def test_edits_are_counted(one, other, distance):
    assert edit_distance(one, other) == edit_distance(other, one) == distance


@pytest.mark.parametrize("verb", [*VERBS, *OWNED])
def test_a_slip_of_one_letter_leads_to_the_verb(verb):
    word = verb.rpartition(" ")[2]
    words = {*VERBS, *(name.partition(" ")[2] for name in OWNED), *SYNONYMS}
    for slip in {slip for slip in slips(word) if len(slip) > 1} - words:
        assert verb in suggestions(slip, VERBS, GROUPS, verb.partition(" ")[0] if " " in verb else ""), slip


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("search", "roses"), "`aios recall`"),
        (("serach",), "`aios recall`"),
        (("ls",), "`aios memory list`"),
        (("Recall",), "`aios recall`"),
        (("quant",), "`aios quantize`"),
        (("version",), "`aios --version`"),
        (("memory", "ls"), "`aios memory list`?"),
        (("teach",), "`aios learn`"),
        (("skills", "shwo"), "`aios skills show`?"),
        (("skills", "delete"), "`aios skills rm`?"),
        (("memory", "delete"), "`aios memory forget`?"),
        (("memory", "search"), "`aios recall`?"),
        (("export",), "`aios memory export`?"),
    ],
)
def test_a_verb_of_another_tool_leads_to_ours(aios, aios_json, typed, meant):
    result = aios(*typed)
    assert result.exit_code == 2
    assert meant in result.stderr
    assert meant in aios_json(*typed, code=2, error=True)["message"]


@pytest.mark.parametrize("typed", ["nonsense", "xyz", "🌹", "a" * 100_000])
def test_what_is_near_nothing_leads_nowhere(aios, typed):
    assert "did you mean" not in aios(typed).stderr
