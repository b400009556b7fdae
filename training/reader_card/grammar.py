"""English as far as turning what documents say into questions needs it, learned from the documents."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable

__all__ = ["Grammar", "as_typed", "first_sentence", "lowered"]

_AFTER = re.compile(r"\b(to|the|a|can|will|must|of|an)\s+([a-z]{2,})\b")
_LEAST = 12
_IRREGULAR = {"has": "have", "does": "do", "goes": "go", "is": "be"}
_END = re.compile(r"(?<=[\w)\]\"'`])\.(?=\s+[A-Z(\[`\"']|\s*$)|(?<=[\w)])[:;](?=\s)|\n")
_VOWELS = "aeiou"
_NO_VERBS = frozenset("the a an this that these those it its be not also only you your all any no".split())


class Grammar:
    """Which words are verbs, by what stands before them in the texts.

    Args:
        texts: of the documents.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        after: dict[str, Counter[str]] = {"to": Counter(), "can": Counter(), "the": Counter()}
        for text in texts:
            for before, word in _AFTER.findall(text):
                kind = "can" if before in ("can", "will", "must") else before if before == "to" else "the"
                after[kind][word] += 1
        # Behind "to" stand nouns too, but few of them stand behind "can".
        self._verbs = {
            word
            for word, count in after["to"].items()
            if count + after["can"][word] >= _LEAST
            and count + after["can"][word] > 0.7 * after["the"][word]
            and after["can"][word] > 0.01 * count
        } - _NO_VERBS

    def __len__(self) -> int:
        return len(self._verbs)

    def is_verb(self, word: str) -> bool:
        """Whether this is the base form of a verb."""
        return word.lower() in self._verbs

    def base(self, word: str) -> str | None:
        """The base form of "sets" or "setting"; None of what is no verb."""
        word = word.lower()
        if word in _IRREGULAR:
            return _IRREGULAR[word]
        tries: list[str] = []
        if word.endswith("ing"):
            stem = word[:-3]
            tries = [stem, stem + "e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem]
        elif word.endswith("s") and not word.endswith("ss"):
            tries = [word[:-1], word[:-2] if word.endswith("es") else word[:-1]]
            tries += [word[:-3] + "y"] if word.endswith("ies") else []
        return next((one for one in tries if one in self._verbs), None)

    def imperative(self, sentence: str) -> str | None:
        """Turn "Set the level" or "Sets the level" into "set the level"; None of what begins with no verb."""
        first, _, rest = sentence.partition(" ")
        if not rest or not first.isalpha():
            return None
        if self.is_verb(first):
            return f"{first.lower()} {rest}"
        base = self.base(first)
        return f"{base} {rest}" if base and base != "be" else None

    def third(self, imperative: str) -> str:
        """Turn "set the level" into "sets the level"."""
        verb, _, rest = imperative.partition(" ")
        irregular = {base: third for third, base in _IRREGULAR.items()}
        if verb in irregular:
            return f"{irregular[verb]} {rest}"
        if verb.endswith("y") and verb[-2:-1] not in _VOWELS:
            return f"{verb[:-1]}ies {rest}"
        return f"{verb}es {rest}" if re.search("(s|x|z|ch|sh|o)$", verb) else f"{verb}s {rest}"

    def gerund(self, imperative: str) -> str:
        """Turn "set the level" into "setting the level"."""
        verb, _, rest = imperative.partition(" ")
        if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
            verb = verb[:-1]
        elif re.fullmatch("[^aeiou]*[aeiou][^aeiouwxy]", verb):
            verb += verb[-1]
        return f"{verb}ing {rest}"


def first_sentence(text: str) -> str:
    """The first sentence, without its full stop."""
    found = _END.search(text)
    return text[: found.start() if found else len(text)].strip()


def lowered(phrase: str) -> str:
    """A phrase inside a sentence: names keep their capitals."""
    first, space, rest = phrase.partition(" ")
    return (first.lower() if first[1:].islower() or len(first) == 1 else first) + space + rest


def as_typed(question: str, rng: random.Random) -> str:
    """As people type: without capitals or marks, with a slip now and then."""
    roll = rng.random()
    if roll < 0.35:
        question = question.lower() if rng.random() < 0.6 else question[:1].lower() + question[1:]
    elif roll < 0.38:
        question = question.upper()
    if rng.random() < 0.3:
        question = question.rstrip("?").rstrip()
    elif rng.random() < 0.06:
        question = question.replace("?", "??") if rng.random() < 0.5 else question.replace("?", " ?")
    if rng.random() < 0.08:
        parts = question.split(" ")
        at = rng.randrange(len(parts))
        if len(parts[at]) > 4 and parts[at].isalpha():
            cut = rng.randrange(1, len(parts[at]) - 2)
            word = parts[at]
            slip = rng.random()
            if slip < 0.5:
                word = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
            elif slip < 0.8:
                word = word[:cut] + word[cut + 1 :]
            else:
                word = word[:cut] + word[cut] + word[cut:]
            parts[at] = word
            question = " ".join(parts)
    if rng.random() < 0.05:
        question = question.replace("'", "").replace(",", "")
    if rng.random() < 0.04:
        question = (
            rng.choice(["hi, ", "Please: ", "quick question: ", "I wonder, ", "Can you tell me: "]) + question
        )
    return question
