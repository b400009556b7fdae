import numpy as np

from ai_os_diffusion.answers.nearest import nearest_answer
from ai_os_diffusion.answers.recall import RecallHit, RecallResult

WORDS = ["roses", "march", "train", "ten"]
GARDEN = RecallHit("g", "Water the lawn.\nCut roses in March.", 0.6, "garden.md", 4, 5, ("Garden",))
TRAINS = RecallHit("t", "The train leaves at ten.", 0.5, "trains.txt", 1, 1)


def embed(texts):
    """How often each of a few words stands in a text."""
    return np.array([[text.lower().count(word) for word in WORDS] for text in texts], np.float32)


def answered(question, *hits, abstained=False):
    found = RecallResult(question, hits, abstained, hits[0].similarity if hits else None, 0.38)
    return nearest_answer(found, embed([question])[0], embed)


def test_the_nearest_part_is_quoted_and_told_to_be_unread():
    answer = answered("when are roses cut in march?", TRAINS, GARDEN)
    assert (answer.text, answer.mode, answer.is_quote) == ("Cut roses in March.", "nearest", True)
    assert answer.confidence is None
    (citation,) = answer.citations
    assert (citation.source, citation.line, citation.end_line) == ("garden.md", 5, 5)
    assert citation.quote[citation.start : citation.end] == citation.quote == "Cut roses in March."


def test_nothing_is_quoted_of_what_does_not_fit():
    answer = answered("train to Berlin?", TRAINS, abstained=True)
    assert (answer.abstained, answer.reason, answer.unknown_names) == (True, "far", ("Berlin",))
    assert answered("train?").reason == "nothing"
    blank = RecallHit("b", " \n ", 0.6)
    assert answered("train?", blank).reason == "no_answer"
