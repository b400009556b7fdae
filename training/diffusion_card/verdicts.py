"""Questions for yes or no, as people ask them: made of questions for a value, and of claims."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

_AUXILIARY = r"(?:did|does|do|is|are|was|were|has|have|had|can|could|will|would|should|must)"
_PREPOSITION = {
    *("in", "on", "at", "by", "from", "since", "until", "to", "for", "during", "after", "before", "around"),
    *("near", "under", "with", "within", "into", "between", "through", "about"),
}
_PLACE_OR_TIME = re.compile(
    rf"(?:when|where|(?:in |on |at )?(?:what|which) (?:year|date|day|month|city|country|town|place|time))"
    rf" ({_AUXILIARY}) (.+)",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"(?:what|who|whom|which [\w-]+|what [\w-]+) (did|does|do) (.+)", re.IGNORECASE)
_BE = re.compile(r"(?:what|who|which) (is|are|was|were) (.+)", re.IGNORECASE)
_MEASURE = re.compile(
    r"how (old|tall|long|far|wide|high|deep|big|large|much) (is|are|was|were) (.+)", re.IGNORECASE
)
_THERE = re.compile(r"how many (.+?) (are|were) (there\b.*)", re.IGNORECASE)
_COUNT = re.compile(r"how many (.+?) (did|does|do|has|have|had) (.+ \w+)", re.IGNORECASE)
_SUBJECT = re.compile(r"(?:who|what|which [\w-]+) ([a-z]+) (.+)", re.IGNORECASE)
_CLAIM = re.compile(rf"(.+?) ((?!did|does|do)(?:{_AUXILIARY})) (.+)")

_IRREGULAR = dict(
    pair.split(":")
    for pair in (
        "became:become began:begin bought:buy broke:break brought:bring built:build came:come "
        "caught:catch chose:choose drank:drink drew:draw drove:drive ate:eat fell:fall felt:feel "
        "fought:fight found:find flew:fly forgot:forget gave:give went:go grew:grow held:hold hid:hide "
        "kept:keep knew:know led:lead left:leave lent:lend lost:lose made:make met:meet paid:pay ran:run "
        "rose:rise said:say sat:sit saw:see sent:send shot:shoot slept:sleep sold:sell spent:spend "
        "spoke:speak stole:steal stood:stand swam:swim taught:teach thought:think threw:throw told:tell "
        "took:take understood:understand woke:wake won:win wore:wear wrote:write"
    ).split()
)
"""Past forms that no rule gives."""


class Verbs:
    """Verbs as texts use them, so that a sentence can be turned into a question.

    Args:
        questions: texts in which verbs follow "did", "does", "to" and the like.
    """

    def __init__(self, questions: Iterable[str]) -> None:
        counts: dict[str, int] = {}
        for text in questions:
            for verb in re.findall(r"\b(?:to|can|will|would|should|could|must) ([a-z]{2,})\b", text):
                counts[verb] = counts.get(verb, 0) + 1
        self._plain = {verb for verb, count in counts.items() if count > 1}

    def plain(self, word: str) -> tuple[str, str] | None:
        """The auxiliary and the infinitive of an inflected verb; None where it is none that is known."""
        if word in _IRREGULAR:
            return "did", _IRREGULAR[word]
        if word.endswith("ied"):
            found = "did", word[:-3] + "y"
            return found if found[1] in self._plain else None
        if word.endswith("ed"):
            doubled = [word[:-3]] if len(word) > 4 and word[-3] == word[-4] else []
            for stem in (word[:-1], word[:-2], *doubled):
                if stem in self._plain:
                    return "did", stem
        if word.endswith("s") and not word.endswith("ss"):
            for stem in [word[:-3] + "y"] if word.endswith("ies") else [word[:-1], word[:-2]]:
                if stem in self._plain:
                    return "does", stem
        return None

    def question(self, claim: str) -> str | None:
        """A claim as a question; None where its verb is not found.

        Args:
            claim: a sentence without its full stop, its first word written as within a sentence.
        """
        asked = _CLAIM.fullmatch(claim)
        if asked:
            who, verb, what = asked.groups()
            # Of "the man who is …", "is" is not what the sentence says.
            return None if re.search(r"\b(who|that|which)$", who) else f"{verb.capitalize()} {who} {what}?"
        words = claim.split()
        for at in range(1, min(7, len(words) - 1)):
            # What stands behind an article or a preposition is no verb.
            found = self.plain(words[at])
            if found and words[at - 1].lower() not in {"a", "an", "the", "of", "and", "to", *_PREPOSITION}:
                auxiliary, verb = found
                return " ".join([auxiliary.capitalize(), *words[:at], verb, *words[at + 1 :]]) + "?"
        return None


@dataclass(frozen=True)
class Asked:
    """A question for a value that can be asked for yes or no of any value.

    Attributes:
        before: the question up to the value.
        behind: the rest of it.
        preposition: what stands before the value, if anything.
    """

    before: str
    behind: str = "?"
    preposition: str = ""

    def of(self, value: str) -> str:
        """Whether it is this value."""
        return " ".join(filter(None, [self.before, self.preposition, value])) + self.behind

    def compared(self, value: str, rng: random.Random) -> tuple[str, bool] | None:
        """Whether it is more or less than some number, and the answer; None where the value is no number."""
        digits = value.replace(",", "")
        if not re.fullmatch(r"\d{1,6}", digits):
            return None
        number, is_year = int(digits), self.preposition in {"in", "since", "until", "by", "from"}
        if bool(self.preposition) != is_year:
            return None
        apart = rng.randint(1, max(3, number // 60 if is_year else number))
        other = max(0, number + rng.choice([-apart, apart]))
        above, below = (
            (["after"], ["before"]) if is_year else (["more than", "over"], ["fewer than", "less than"])
        )
        asks_above = rng.random() < 0.5
        words = rng.choice(above if asks_above else below)
        question = f"{self.before} {words} {other}{self.behind}"
        return question, number != other and (number > other) == asks_above


def asked(question: str, context: str, begin: int, verbs: Verbs) -> Asked | None:
    """How one asks whether a value is the answer; None where the question has no form that can be turned.

    Args:
        question: asks for a value, as "When did it open?".
        context: the text that holds the value.
        begin: where the value begins there, in characters.
        verbs: known verbs.
    """
    text = question.strip().rstrip("?").strip()
    if found := _PLACE_OR_TIME.fullmatch(text):
        auxiliary, rest = found.groups()
        before = context[:begin].split()[-1:]
        preposition = before[0].lower() if before and before[0].lower() in _PREPOSITION else ""
        if not preposition or rest.split()[-1].lower() in _PREPOSITION:
            return None
        return Asked(f"{auxiliary.capitalize()} {rest}", preposition=preposition)
    if found := _THERE.fullmatch(text):
        things, verb, rest = found.groups()
        return Asked(f"{verb.capitalize()} there", f" {things}{rest.removeprefix('there')}?")
    if found := _COUNT.fullmatch(text):
        things, verb, rest = found.groups()
        return Asked(f"{verb.capitalize()} {rest}", f" {things}?") if len(rest.split()) <= 5 else None
    if found := _MEASURE.fullmatch(text):
        _, verb, rest = found.groups()
        return Asked(f"{verb.capitalize()} {rest}")
    if found := _BE.fullmatch(text):
        verb, rest = found.groups()
        if rest.startswith(("the ", "his ", "her ", "its ", "their ", "my ", "your ")):
            return Asked(f"{verb.capitalize()} {rest}")
        return Asked(verb.capitalize(), f" {rest}?")
    if found := _OBJECT.fullmatch(text):
        auxiliary, rest = found.groups()
        return Asked(f"{auxiliary.capitalize()} {rest}") if len(rest.split()) <= 7 else None
    if found := _SUBJECT.fullmatch(text):
        verb, rest = found.groups()
        if inflected := verbs.plain(verb):
            auxiliary, infinitive = inflected
            return Asked(auxiliary.capitalize(), f" {infinitive} {rest}?")
    return None


def reason(context: str, begin: int, end: int, most: int) -> str:
    """The clause that says a value: its sentence where that is short, else what commas leave of it."""
    for ends in (r"(?<=[.!?])\s+|\n+", r"(?<=[.!?,;:])\s+|\n+"):
        cuts = [0, *(cut.end() for cut in re.finditer(ends, context)), len(context)]
        first = max(cut for cut in cuts if cut <= begin)
        last = min(cut for cut in cuts if cut >= end)
        clause = context[first:last].strip().rstrip(".,;:")
        if len(clause) <= most:
            return clause
    return context[begin:end]
