"""The way of a question with engines that are given: a reader by script, models that say what they must."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ai_os_diffusion.answers.answer import Answer
from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.answers.recall import RecallHit, RecallResult
from ai_os_diffusion.inference.reading.reading import Reading, Span
from ai_os_diffusion.runtime.answering import Answering
from ai_os_diffusion.runtime.before import Before
from ai_os_diffusion.runtime.reading import RuntimeReader
from ai_os_diffusion.utils.errors import ConfigurationError
from ai_os_diffusion.utils.statistics.calibration import Calibration, Feature

QUESTION = "When are roses cut?"
GARDEN = RecallHit("g", "Water the lawn. Roses are cut in March.", 0.5, "garden.md", 3, 3)
TRAINS = RecallHit("t", "The night train leaves at ten.", 0.6, "trains.txt", 8, 8)
FOUND = RecallResult(QUESTION, (TRAINS, GARDEN), False, 0.6, 0.38)


class ScriptedReader:
    """Points at given texts, with given margins."""

    judge = Judge()

    def __init__(self, **margins):
        self.margins = margins

    def read(self, question, hits):
        readings = []
        for hit in hits:
            told = [(text, margin) for text, margin in self.margins.items() if text in hit.text]
            spans = [
                Span(hit.text.index(text), hit.text.index(text) + len(text), margin) for text, margin in told
            ]
            readings.append(Reading(tuple(sorted(spans, key=lambda span: -span.margin))))
        return readings

    candidates = RuntimeReader.candidates


class ReaderOfQuestions(ScriptedReader):
    """Points at texts with margins that depend on the question."""

    judge = Judge(Calibration(0.0, {"margin": Feature(0.0, 1.0, 1.0)}), 0.5)

    def __init__(self, by_question):
        self.by_question = by_question

    def read(self, question, hits):
        self.margins = self.by_question[question]
        return super().read(question, hits)


class Stream(list):
    generation = SimpleNamespace(finish_reason="stop")


class Runtime:
    """What `Answering` uses of a runtime."""

    def __init__(self, reader=None, says="", uncertainty=None, recalls=None):
        self.reader, self.says, self.uncertainty = reader, says, uncertainty
        self.encoder = SimpleNamespace(
            encode_query=self.embed, encode_document=self.embed, end_of=lambda question: question
        )
        self.to_read = (recalls or {}).__getitem__
        self.prompts, self.contexts, self.finish_reason = [], [], "stop"

    @staticmethod
    def embed(texts):
        words = ["roses", "train", "lawn"]
        rows = [texts] if isinstance(texts, str) else texts
        vectors = np.array([[text.lower().count(word) for word in words] for text in rows], np.float32)
        return vectors[0] if isinstance(texts, str) else vectors

    def generate(self, prompt, **settings):
        self.prompts.append(prompt)
        stream = Stream([self.says])
        stream.generation = SimpleNamespace(finish_reason=self.finish_reason)
        return stream

    @property
    def diffuser(self):
        return SimpleNamespace(
            tokenizer=SimpleNamespace(count=lambda text: [len(text)]),
            diffusion_settings=SimpleNamespace(declines="not stated", verdicts=("yes; ",), block_length=16),
            diffuse=self.diffuse,
        )

    def diffuse(self, question, *, context, max_tokens):
        self.contexts.append(context)
        return SimpleNamespace(text=self.says, uncertainty=self.uncertainty)


def answered(runtime, found=FOUND, **options):
    *pieces, answer = Answering(runtime, **options).answer(found)
    assert isinstance(answer, Answer)
    assert pieces == ([answer.text] if answer.text else [])
    return answer


def test_the_passage_with_the_answer_comes_first():
    answer = answered(Runtime(ScriptedReader(March=3.0, ten=1.0)))
    assert (answer.text, answer.mode) == ("March", "reader")
    assert [hit.memory_id for hit in answer.passages] == ["g", "t"]
    assert answer.citations[0].quote == "Roses are cut in March."


BEFORE = Before("When does the night train leave?", "at ten", (TRAINS,))
TOGETHER = "When does the night train leave? at ten And what is cut?"
MESSAGE = replace(FOUND, question="And what is cut?", hits=(GARDEN,))


def followed_up(alone, together, before=BEFORE, found=MESSAGE):
    reader = ReaderOfQuestions({found.question: alone, before.with_message(found.question): together})
    runtime = Runtime(reader, recalls={before.with_message(found.question): replace(FOUND, hits=(TRAINS,))})
    *_, answer = Answering(runtime).answer(found, before)
    return answer


@pytest.mark.parametrize(
    ("alone", "together", "text"),
    [
        ({"Roses": 3.0}, {}, "Roses"),  # It says enough.
        ({"Roses": -1.0}, {"Roses": 3.0}, "Roses"),  # What came before helps.
        ({"Roses": 2.0, "lawn": 1.0}, {"Roses": -3.0, "lawn": 4.0}, "lawn"),  # Both together are surer.
        (
            {"Roses": -1.0, "lawn": -6.0},
            {"lawn": 4.0, "Roses": -4.0},
            "",
        ),  # The message itself does not ask for it.
        ({"Roses": -6.0}, {"Roses": 3.0}, ""),
        ({}, {}, ""),
    ],
)
def test_a_follow_up_is_answered_by_what_both_readings_find(alone, together, text):
    answer = followed_up(alone, together)
    assert (answer.text, answer.question) == (text, MESSAGE.question)
    assert answer.abstained == (not text)


def test_a_follow_up_is_read_where_the_answer_before_it_stands():
    answer = followed_up({"night train": 2.0}, {"night train": 2.0})
    assert (answer.text, answer.citations[0].source) == ("night train", "trains.txt")
    found = replace(MESSAGE, hits=())
    assert followed_up({"night train": 2.0}, {"night train": 2.0}, found=found).text == "night train"


def test_what_is_known_answers_nothing_new_but_a_part_of_it_may():
    told = Before("When does it leave?", "leaves at ten", (TRAINS,))
    assert followed_up({"ten": 2.0}, {"ten": 2.0}, told).text == "ten"
    assert followed_up({"train leaves at ten": -1.0}, {"train leaves at ten": 4.0}, told).abstained


def test_what_was_declined_tells_a_subject_all_the_same():
    declined = Before("Where do roses grow?")
    assert declined.with_message("And when?") == "Where do roses grow? And when?"
    assert followed_up({"March": -1.0}, {"March": 3.0}, declined).text == "March"


def test_what_is_said_before_is_the_answer_with_its_passage():
    answer = answered(Runtime(ScriptedReader(March=3.0, ten=1.0)))
    assert Before.of(answer) == Before(QUESTION, "March", (GARDEN,))
    assert Before.of(answered(Runtime(ScriptedReader(March=-3.0)))) == Before(QUESTION)


@pytest.mark.parametrize("mode", ["ar", "diffusion"])
def test_what_the_reader_declines_is_not_answered_and_no_model_is_asked(mode):
    runtime = Runtime(ScriptedReader(March=-3.0), says="Roses are cut in March.")
    answer = answered(runtime, mode=mode)
    assert (answer.abstained, answer.reason) == (True, "no_answer")
    assert runtime.prompts == runtime.contexts == []


def test_what_was_not_near_is_not_read():
    found = RecallResult(QUESTION, (), True, 0.1, 0.38)
    for reader in (None, ScriptedReader()):
        answer = answered(Runtime(reader), found, mode="ar")
        assert (answer.abstained, answer.reason) == (True, "far")


def test_without_a_reader_the_nearest_part_is_the_answer():
    answer = answered(Runtime())
    assert (answer.text, answer.mode) == ("Roses are cut in March.", "nearest")


def test_a_model_says_what_was_found_in_a_sentence_of_its_own():
    runtime = Runtime(ScriptedReader(March=3.0), says=" Roses are cut in March.")
    answer = answered(runtime, mode="ar")
    assert (answer.text, answer.mode, answer.is_quote) == ("Roses are cut in March.", "ar", False)
    assert answer.citations[0].quote == "Roses are cut in March."
    assert runtime.prompts[0].endswith(f"Text: Roses are cut in March.\nQuestion: {QUESTION}\nAnswer:")


@pytest.mark.parametrize(
    "says", [" Roses are cut in May.", " Roses are cut.", " In March roses are cut.", ""]
)
def test_an_invention_is_never_shown_the_passage_speaks_instead(says):
    answer = answered(Runtime(ScriptedReader(March=3.0), says=says), mode="ar")
    assert (answer.text, answer.mode) == ("March", "reader")


def test_a_sentence_that_was_cut_is_not_shown():
    runtime = Runtime(ScriptedReader(March=3.0), says=" In March roses are")
    runtime.finish_reason = "length"
    assert answered(runtime, mode="ar").mode == "reader"


def test_a_short_answer_by_diffusion_is_shown_where_it_stands():
    runtime = Runtime(ScriptedReader(March=3.0), says="yes; cut in March", uncertainty=0.25)
    answer = answered(runtime, mode="diffusion")
    # The verdict is the model's own.
    assert (answer.text, answer.mode, answer.confidence) == ("cut in March", "diffusion", 0.75)
    assert answer.citations[0].quote == "Roses are cut in March."
    # The passage in which the reader found most stands next to the question.
    assert runtime.contexts[0][-1] == GARDEN.text


@pytest.mark.parametrize("says", ["in April", "the lawn", "yes; at ten"])
def test_a_short_answer_that_stands_nowhere_or_is_none_that_was_read_is_not_shown(says):
    runtime = Runtime(ScriptedReader(March=3.0), says=says, uncertainty=0.25)
    answer = answered(runtime, mode="diffusion")
    assert (answer.text, answer.mode, answer.uncertainty) == ("March", "reader", 0.25)


def test_a_model_that_declines_is_believed_where_it_was_asked():
    runtime = Runtime(ScriptedReader(March=3.0), says="Not stated", uncertainty=0.25)
    answer = answered(runtime, mode="diffusion")
    assert (answer.abstained, answer.reason, answer.mode) == (True, "declined", "diffusion")
    assert answer.confidence == 0.75


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="mode is 'best'"):
        Answering(Runtime(), mode="best")
