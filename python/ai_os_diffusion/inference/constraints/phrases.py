"""Words and phrases that a text must not hold, or must."""

from __future__ import annotations

from collections.abc import Iterable

from ai_os_diffusion.inference.constraints.constraint import OPEN, Constraint, Runs
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Banned", "Required"]

_MOST_BANNED, _MOST_REQUIRED, _LONGEST = 100_000, 64, 256
_FAR = 64
"""Characters behind what is remembered that are read again each time, before it is remembered anew."""


class _Phrases:
    """Phrases to be found in texts: a place is looked up once for each length of one.

    Args:
        phrases: one or more.
        most: of them.
        whole_words: a phrase that begins or ends with a letter or digit stands between others.
        match_case: a capital is another letter.

    Raises:
        SamplingError: one is no text, empty or too long, or there are too many.
    """

    def __init__(self, phrases: Iterable[str], most: int, *, whole_words: bool, match_case: bool) -> None:
        self._whole_words, self._match_case = whole_words, match_case
        self.given = tuple(phrases)
        if not 0 < len(self.given) <= most:
            raise SamplingError(f"expected 1 to {most} phrases, got {len(self.given)}")
        for one in self.given:
            if not isinstance(one, str) or one != one.strip() or not 0 < len(one) <= _LONGEST:
                raise SamplingError(
                    f"expected a phrase of 1 to {_LONGEST} characters without white space around it, "
                    f"got {one!r:.80}"
                )
        self._folded = frozenset(map(self.fold, self.given))
        self._lengths = sorted({len(one) for one in self._folded})

    def fold(self, text: str) -> str:
        """A text in which equal phrases are equal."""
        return text if self._match_case else text.casefold()

    def ends(self, folded: str, begin: int, end: int) -> list[tuple[int, str]]:
        """Phrases that end at one of the places from `begin` to `end`, and where they do."""
        found = []
        for at in range(begin, end + 1):
            for length in self._lengths:
                phrase = folded[at - length : at] if length <= at else ""
                if phrase in self._folded and self._is_apart(folded, at - length, at):
                    found.append((at, phrase))
        return found

    def _is_apart(self, folded: str, begin: int, end: int) -> bool:
        """Whether no word goes on beyond what was found. The end of a text is the end of a word."""
        if not self._whole_words:
            return True
        joined = [folded[max(begin - 1, 0) : begin + 1], folded[end - 1 : end + 1]]
        return not any(len(pair) == 2 and all(map(_is_of_word, pair)) for pair in joined)


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


class Banned(Constraint):
    """Phrases that must not occur, in however many tokens they are written.

    Args:
        phrases: at most 100,000.
        whole_words: "ass" does not ban "class".
        match_case: "Anna" does not ban "anna".
    """

    def __init__(self, *phrases: str, whole_words: bool = True, match_case: bool = False) -> None:
        self._phrases = _Phrases(phrases, _MOST_BANNED, whole_words=whole_words, match_case=match_case)
        # A text, and how many phrases end before its end: those at its end may go on to be other words.
        self._counted: tuple[str, int] = ("", 0)

    def energy(self, runs: Runs) -> float:
        """How many of them occur. One at an open end counts: it is one unless the word goes on."""
        return float(sum(self._count(run) for run in runs if run))

    def completion(self, text: str) -> str | None:  # noqa: ARG002
        """Nothing: what is banned is never missing."""
        return ""

    def violation(self, text: str) -> str | None:
        """The first that occurs."""
        folded = self._phrases.fold(text)
        found = self._phrases.ends(folded, 1, len(folded))
        return f"{found[0][1]!r} is banned and occurs" if found else None

    def _count(self, run: str) -> int:
        folded = self._phrases.fold(run)
        text, count = self._counted
        if not folded.startswith(text):
            text, count = "", 0
        found = self._phrases.ends(folded, max(len(text), 1), len(folded))
        if len(folded) - len(text) > _FAR:
            self._counted = folded, count + sum(at < len(folded) for at, _ in found)
        return count + len(found)


class Required(Constraint):
    """Phrases that must all occur.

    Args:
        phrases: at most 64.
        whole_words: "classes" does not hold "class".
        match_case: "anna" does not hold "Anna".
    """

    def __init__(self, *phrases: str, whole_words: bool = True, match_case: bool = False) -> None:
        self._phrases = _Phrases(phrases, _MOST_REQUIRED, whole_words=whole_words, match_case=match_case)

    @property
    def phrases(self) -> tuple[str, ...]:
        """As they were given."""
        return self._phrases.given

    def energy(self, runs: Runs) -> float:
        """How many are missing, once nothing is open."""
        return 0.0 if OPEN in runs else float(len(self.missing([run for run in runs if run])))

    def completion(self, text: str) -> str | None:
        """Those that are missing; of one that is begun at the end the rest."""
        missing = self.missing([text])
        for one in missing[:1]:
            for length in range(min(len(one) - 1, len(text)), 0, -1):
                is_apart = length == len(text) or not _is_of_word(text[-length - 1])
                # To the letter: what is written to be complete is written as it was asked for.
                if is_apart and text.endswith(one[:length]):
                    return " ".join([one[length:], *missing[1:]])
        gap = " " if missing and text and not text[-1].isspace() else ""
        return gap + " ".join(missing)

    def violation(self, text: str) -> str | None:
        """Those that are missing."""
        missing = self.missing([text])
        return (
            f"{', '.join(map(repr, missing))} {'is' if len(missing) == 1 else 'are'} missing"
            if missing
            else None
        )

    def missing(self, runs: Iterable[str]) -> list[str]:
        """Those that occur in none of some texts, as they were given."""
        found: set[str] = set()
        for run in runs:
            folded = self._phrases.fold(run)
            found.update(phrase for _, phrase in self._phrases.ends(folded, 1, len(folded)))
        return [one for one in self.phrases if self._phrases.fold(one) not in found]
