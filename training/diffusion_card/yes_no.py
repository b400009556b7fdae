"""Questions for yes or no, answered with the reason."""

from __future__ import annotations

import random
import re

from open_data import OpenData
from passages import NAME_OR_NUMBER, NOT_STATED, answer_of, ask, crop, join, shape
from verdicts import Verbs, asked, reason

from ai_os_diffusion.training import Example, Piece


class YesNo:
    """Draws them: of claims, and of questions that ask for a value.

    Args:
        data: questions with answers, and entailment.
    """

    def __init__(self, data: OpenData) -> None:
        self._data = data
        self._verbs = Verbs([*(row["premise"] for row in data.entailment), *data.questions_of])

    def draw(self, rng: random.Random) -> Example:
        """Whether something is so, with the reason."""
        draw = rng.choices([self._claim, self._value_asked, self._value_put], [0.4, 0.45, 0.15])[0]
        return draw(rng)

    def _value_put(self, rng: random.Random) -> Example:
        """A question for a value, and a value beside it."""
        _, row = self._data.draw(rng)
        answer, context = answer_of(rng, row), crop(rng, row, 1200)
        is_right = rng.random() < 0.5
        said = answer if is_right else self._wrong(rng, row, answer)
        if said is None:
            said, is_right = answer, True
        form = rng.choice(
            ["{question} Is it {said}?", "Is {said} the answer to: {question}", "{question} {said}, right?"]
        )
        question = form.format(question=row["question"].strip(), said=said)
        written = Piece(f"{'Yes' if is_right else 'No'}: {answer}")
        return Example("yes_no", ask(context, question), (written,), room=32)

    def _value_asked(self, rng: random.Random) -> Example:
        """A value within the question, as people ask for yes or no."""
        while True:
            source, row = self._data.draw(rng)
            found = rng.choice(row["answers"])
            answer, begin = found["text"], found["start"]
            question = asked(row["question"], row["context"], begin, self._verbs)
            if question is None or len(answer) > 40:
                continue
            compared = question.compared(answer, rng) if rng.random() < 0.3 else None
            if compared:
                text, is_right = compared
            elif rng.random() < 0.5:
                text, is_right = question.of(answer), True
            else:
                wrong = self._wrong(rng, row, answer)
                if wrong is None:
                    continue
                text, is_right = question.of(wrong), False
            why = reason(row["context"], begin, begin + len(answer), rng.choice([60, 100, 120]))
            written = f"{'Yes' if is_right else 'No'}: {why}"
            passages = [crop(rng, row, 700)]
            others = [self._data.other(rng, source, 500) for _ in range(rng.choice([0, 0, 0, 1, 2]))]
            passages += [other for other in others if answer.lower() not in other.lower()]
            if rng.random() < 0.15:
                other = self._data.other(rng, source, 700)
                passages[0] = other
                if any(one["text"].lower() in " ".join(passages).lower() for one in row["answers"]):
                    continue
                written = NOT_STATED
            rng.shuffle(passages)
            return Example("yes_no", ask(join(rng, passages), text), (Piece(written),), room=32)

    def _wrong(self, rng: random.Random, row: dict, answer: str) -> str | None:
        """A value of the same passage that is none of the answers, as alike as there is; None without any."""
        right = [one["text"].lower() for one in row["answers"]]
        others = [answer_of(rng, other) for other in self._data.questions_of[row["context"]]]
        named = [match.group() for match in NAME_OR_NUMBER.finditer(row["context"])]
        if any(map(str.isdigit, answer)):
            named.append(re.sub(r"\d", lambda _: str(rng.randint(1, 9)), answer))
        apart = [
            value
            for value in (*others, *named)
            if len(value) <= 60 and not any(value.lower() in one or one in value.lower() for one in right)
        ]
        alike = [value for value in apart if shape(value) == shape(answer)]
        return rng.choice(alike or apart) if apart else None

    def _claim(self, rng: random.Random) -> Example:
        row = rng.choice(self._data.entailment)
        notes = [
            row["premise"],
            *(other["premise"] for other in rng.sample(self._data.entailment, rng.randint(0, 4))),
        ]
        rng.shuffle(notes)
        claim = row["hypothesis"].strip().rstrip(".")
        question = self._verbs.question(self._data.within(claim)) if rng.random() < 0.8 else None
        if question is None:
            form = rng.choice(["Is it true that {}?", "Is this right: {}?", "{}. True or false?", "True? {}"])
            question = form.format(self._data.within(claim) if form.startswith("Is") else claim)
        why = row["premise"].strip().rstrip(".")
        answer = {"entail": f"Yes: {why}", "contradict": f"No: {why}", "neutral": NOT_STATED}[row["label"]]
        return Example(
            "yes_no", ask(rng.choice(["\n", " ", "\n- "]).join(notes), question), (Piece(answer),), room=32
        )
