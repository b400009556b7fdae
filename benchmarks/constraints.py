"""How often texts satisfy constraints, free and held to them: `constraints.py [MODEL] [DIFFUSING]`.

Every prompt is answered free first. Then it is answered held to: two words of that answer banned; two words
of another subject required; a pattern (one sentence of bounded length, a number, yes or no); a JSON schema;
words banned and required together; and these with a pattern. A free answer is looked at by the same
constraints. Given are, for each kind, how many free and how many held texts satisfy them (a held one that
does not is an error of the library, never a text), attempts a text, milliseconds a token free and held, and
the same of short answers by diffusion from a passage.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from measure import report

SUBJECTS = (
    "cats,the sea,bread,trains,the moon,chess,rain,bees,bridges,music,glass,tea,horses,paper,ice".split(",")
)
TASKS = ("Write two sentences about {}.", "Explain {} to a child.", "Why do people like {}?")
EXTRAS = "garden window river letter summer friend stone winter mountain kitchen".split()
PATTERNS = (
    ("How many legs do {} have? A number.", r"\d{1,4}"),
    ("Are {} old? Answer yes or no.", r"(Yes|No)\."),
    ("Describe {} in one sentence.", r"[A-Z][^.!?\n]{20,160}\."),
)
SCHEMA = {
    "type": "object",
    "properties": {
        "subject": {"type": "string", "maxLength": 40},
        "kind": {"enum": ["animal", "thing", "place", "idea"]},
        "old": {"type": "boolean"},
        "rating": {"type": "integer", "minimum": 0},
        "words": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    },
    "required": ["subject", "kind", "old", "rating", "words"],
}
MOST_TOKENS = 80


class Tally:
    """Texts of one kind."""

    def __init__(self) -> None:
        self.count = self.free = self.held = self.attempts = 0
        self.tokens, self.seconds = [0, 0], [0.0, 0.0]

    def figures(self) -> dict[str, Any]:
        """Counts, and milliseconds a token."""
        free, held = (
            1e3 * spent / max(tokens, 1) for spent, tokens in zip(self.seconds, self.tokens, strict=True)
        )
        return {
            "texts": self.count,
            "free_satisfy": self.free,
            "held_satisfy": self.held,
            "attempts": round(self.attempts / self.count, 2),
            "free_ms_a_token": round(free, 1),
            "held_ms_a_token": round(held, 1),
        }


def words_of(text: str, draw: random.Random) -> list[str]:
    found = sorted({word.casefold() for word in re.findall(r"[A-Za-z]{4,}", text)})
    return draw.sample(found, min(2, len(found)))


def compare(
    tally: Tally, write: Callable[..., Any], constraints: Sequence[Any], free: Any, seconds: float
) -> None:
    from ai_os_diffusion.inference.constraints import ConstraintSet
    from ai_os_diffusion.utils.errors import ConstraintError

    tally.count += 1
    tally.free += not ConstraintSet(list(constraints)).violations(free)
    tally.tokens[0] += len(free.tokens)
    tally.seconds[0] += seconds
    begun = time.perf_counter()
    try:
        text = write(constraints=list(constraints))
        tally.held += 1
        tally.attempts += text.attempts
    except ConstraintError as error:
        text = error.text
        tally.attempts += error.attempts
    tally.seconds[1] += time.perf_counter() - begun
    tally.tokens[1] += len(text.tokens)


def chat(engine: Any, prompt: str, seed: int, **held: Any) -> Any:
    turn = {"role": "user", "content": prompt}
    return engine.generate(messages=[turn], max_tokens=MOST_TOKENS, seed=seed, **held)


def timed(write: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    text = write()
    return text, time.perf_counter() - begun


def main() -> None:
    from ai_os_diffusion.inference import ArrowEngine, Banned, FollowsSchema, Matches, Required
    from ai_os_diffusion.utils.errors import ModelLoadError

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("diffusing", nargs="?", default="smollm2-diffusion")
    parser.add_argument("--prompts", type=int, default=20)
    options = parser.parse_args()
    try:
        engine = ArrowEngine(options.model, device="cpu")
        diffusing = ArrowEngine(options.diffusing, device="cpu")
    except ModelLoadError as error:
        print(f"skipped: {error}")
        print(json.dumps({"benchmark": "constraints", "skipped": "no model"}))
        return
    draw = random.Random(0)
    tallies: dict[str, Tally] = {}
    schema, sentences = FollowsSchema(SCHEMA), Matches(r"[A-Z][^\n]{40,300}[.!?]")
    with engine, diffusing:
        for number in range(options.prompts):
            subject, extras = draw.choice(SUBJECTS), draw.sample(EXTRAS, 2)
            task = partial(chat, engine, draw.choice(TASKS).format(subject), number)
            free = timed(task)
            banned = Banned(*words_of(free[0], draw))
            both = [banned, Required(*(one for one in extras if banned.violation(one) is None))]
            question, pattern = PATTERNS[number % len(PATTERNS)]
            number_of = partial(chat, engine, question.format(subject), number)
            told = f"Describe {subject} as JSON with subject, kind, old, rating and words."
            described = partial(chat, engine, told, number)
            passage = f"In spring Anna wrote about {subject}; Ben read it near the {extras[0]}."
            short = partial(diffusing.diffuse, "What did Anna write about?", context=passage, seed=number)
            answer = timed(short)
            others = [Banned(*words_of(answer[0], draw))] if words_of(answer[0], draw) else []
            for name, write, own, held in (
                ("banned", task, free, [banned]),
                ("required", task, free, [Required(*extras)]),
                ("banned_required", task, free, both),
                ("banned_required_pattern", task, free, [*both, sentences]),
                ("pattern", number_of, timed(number_of), [Matches(pattern)]),
                ("schema", described, timed(described), [schema]),
                ("diffused", short, answer, [Required(extras[0]), *others]),
            ):
                compare(tallies.setdefault(name, Tally()), write, held, *own)
    report(**{name: tally.figures() for name, tally in tallies.items()})


if __name__ == "__main__":
    main()
