"""Regular expressions as automata: what a text that is still being written may become."""

from __future__ import annotations

import importlib
import re
import sys
from collections import deque
from typing import Any

from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Automaton", "State"]

# The parser of `re` itself, so that a pattern means what it means there.
_parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

State = frozenset[int]
"""Places of the pattern that a text may have reached; none is a text that no other can rescue."""

_MOST_CHARACTERS = 20_000
_MOST_STATES = 10_000
_MOST_REMEMBERED = 2_000_000
# `re` folds every character of a range by itself.
_WIDEST_FOLDED = 1 << 16
# The usual first, so that the shortest way to an end reads like text.
_SAMPLES = "".join(map(chr, [*range(97, 123), *range(48, 58), 32, *range(65, 91), *range(33, 127), 10, 9]))


class Automaton:
    """The texts that a regular expression of `re` matches as a whole.

    Reading a character takes time that the pattern bounds, whatever it is: nothing is ever tried again. What
    no finite automaton can hold to (references to groups, looking around, word boundaries) is refused.

    Args:
        pattern: as `re` takes it; `^` and `$` may stand at its ends, where they change nothing.

    Raises:
        SamplingError: the pattern is wrong, too long, or repeats too much.

    Source: K. Thompson, Regular Expression Search Algorithm, CACM 11(6), 1968.
    """

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str) or len(pattern) > _MOST_CHARACTERS:
            raise SamplingError(f"pattern: expected a str of at most {_MOST_CHARACTERS} characters")
        self.pattern = pattern
        self._skips: list[list[int]] = []
        self._edges: list[tuple[_Characters, int] | None] = []
        try:
            parsed = _parser.parse(pattern)
            begin, self._end = self._state(), self._state()
            self._sequence(_without_ends(list(parsed)), begin, self._end, parsed.state.flags)
        except (re.error, OverflowError) as error:
            raise SamplingError(f"pattern {_shown(pattern)} is no regular expression: {error}") from error
        except RecursionError as error:
            raise SamplingError(f"pattern {_shown(pattern)} is nested too deeply") from error
        self._left = self._ways_out()
        self._known: dict[tuple[State, str], State] = {}
        self._remembered = 0
        self.start = self._closed({begin})

    def read(self, state: State, text: str) -> State:
        """Where a text leads."""
        for character in text:
            if not state:
                break
            found = self._known.get((state, character))
            state = self._read(state, character) if found is None else found
        return state

    def read_anything(self, state: State) -> State:
        """Where all texts together lead, the empty one too."""
        found, new = set(state), list(state)
        while new:
            one = new.pop()
            edge = self._edges[one]
            following = [*self._skips[one], *([edge[1]] if edge else ())]
            new += [other for other in following if other not in found]
            found.update(following)
        return frozenset(found)

    def accepts(self, state: State) -> bool:
        """Whether the text as it stands matches."""
        return self._end in state

    def completion(self, state: State) -> str | None:
        """A shortest text with which what was read would match; None where there is none."""
        known = [one for one in state if one in self._left]
        if not known:
            return None
        at, found = min(known, key=lambda one: (self._left[one][0], one)), []
        while at != self._end:
            _, character, at = self._left[at]
            found.append(character)
        return "".join(found)

    def _read(self, state: State, character: str) -> State:
        reached = {edge[1] for one in state if (edge := self._edges[one]) and edge[0].has(character)}
        found = self._closed(reached)
        self._remembered += len(found) + 1
        if self._remembered > _MOST_REMEMBERED:
            self._known, self._remembered = {}, len(found) + 1
        self._known[state, character] = found
        return found

    def _closed(self, states: set[int]) -> State:
        found, new = set(states), list(states)
        while new:
            for other in self._skips[new.pop()]:
                if other not in found:
                    found.add(other)
                    new.append(other)
        return frozenset(found)

    def _ways_out(self) -> dict[int, tuple[int, str, int]]:
        """Of each state from which the end is reached: characters left, the next one, where it leads."""
        before: list[list[tuple[int, str]]] = [[] for _ in self._skips]
        for state, (skips, edge) in enumerate(zip(self._skips, self._edges, strict=True)):
            for other in skips:
                before[other].append((state, ""))
            if edge and edge[0].sample:
                before[edge[1]].append((state, edge[0].sample))
        found = {self._end: (0, "", self._end)}
        waiting = deque([(0, self._end, "", self._end)])
        is_done: set[int] = set()
        while waiting:
            length, state, character, following = waiting.popleft()
            if state in is_done:
                continue
            is_done.add(state)
            found[state] = length, character, following
            for other, own in before[state]:
                if other not in is_done:
                    step = length + len(own), other, own, state
                    waiting.append(step) if own else waiting.appendleft(step)
        return found

    def _state(self) -> int:
        if len(self._skips) >= _MOST_STATES:
            raise SamplingError(
                f"pattern {_shown(self.pattern)} repeats too much: it has more than {_MOST_STATES} places"
            )
        self._skips.append([])
        self._edges.append(None)
        return len(self._skips) - 1

    def _sequence(self, items: list[Any], begin: int, end: int, flags: int) -> None:
        for item in items:
            following = self._state()
            self._item(item, begin, following, flags)
            begin = following
        self._skips[begin].append(end)

    def _item(self, item: Any, begin: int, end: int, flags: int) -> None:
        kind, value = str(item[0]), item[1]
        if kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            self._edges[begin] = _Characters(kind, value, flags), end
        elif kind == "BRANCH":
            for items in value[1]:
                own = self._state()
                self._skips[begin].append(own)
                self._sequence(list(items), own, end, flags)
        elif kind == "SUBPATTERN":
            _, added, removed, items = value
            self._sequence(list(items), begin, end, (flags | added) & ~removed)
        elif kind in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, items = value
            self._repeat(least, most, items, begin, end, flags)
        else:
            raise SamplingError(
                f"pattern {_shown(self.pattern)} has {kind.lower()}, which cannot be held to while a text is "
                "written; leave out boundaries, lookarounds, references to groups and possessive repeats"
            )

    def _repeat(self, least: int, most: Any, items: Any, begin: int, end: int, flags: int) -> None:
        for _ in range(least):
            following = self._state()
            self._sequence(list(items), begin, following, flags)
            begin = following
        if most is _parser.MAXREPEAT:
            own = self._state()
            self._skips[begin].append(own)
            back = self._state()
            self._sequence(list(items), own, back, flags)
            self._skips[back].append(own)
            self._skips[own].append(end)
            return
        for _ in range(least, most):
            self._skips[begin].append(end)
            own, following = self._state(), self._state()
            self._skips[begin].append(own)
            self._sequence(list(items), own, following, flags)
            begin = following
        self._skips[begin].append(end)


class _Characters:
    """The characters of one place of a pattern.

    Attributes:
        sample: one of them; "" where none is known.
    """

    def __init__(self, kind: str, value: Any, flags: int) -> None:
        items = [("LITERAL", value)] if kind.endswith("LITERAL") else list(value) if kind == "IN" else []
        is_not = kind == "NOT_LITERAL" or (bool(items) and str(items[0][0]) == "NEGATE")
        own = [(str(one), what) for one, what in items if str(one) != "NEGATE"]
        if flags & re.IGNORECASE and any(
            one == "RANGE" and what[1] - what[0] > _WIDEST_FOLDED for one, what in own
        ):
            raise SamplingError("pattern: a range of characters is too wide for one that ignores case")
        source = "." if kind == "ANY" else f"[{'^' * is_not}{''.join(_class_of(*one) for one in own)}]"
        kept = flags & (re.IGNORECASE | re.ASCII | re.DOTALL)
        self._has = re.compile(source, kept).fullmatch
        firsts = [what if one == "LITERAL" else what[0] for one, what in own if one in ("LITERAL", "RANGE")]
        likely = _SAMPLES if is_not or not firsts else "".join(map(chr, firsts)) + _SAMPLES
        self.sample = next((character for character in likely if self.has(character)), "")

    def has(self, character: str) -> bool:
        """Whether a character is one of them."""
        return self._has(character) is not None


def _class_of(kind: str, value: Any) -> str:
    """A part of a class of characters, as it is written."""
    if kind == "LITERAL":
        return f"\\U{value:08x}"
    if kind == "RANGE":
        return f"\\U{value[0]:08x}-\\U{value[1]:08x}"
    name = str(value).removeprefix("CATEGORY_")
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[name.removeprefix("NOT_")]
    return f"\\{letter.upper() if name.startswith('NOT_') else letter}"


def _without_ends(items: list[Any]) -> list[Any]:
    """A pattern without the anchors at its ends: it is matched as a whole in any case."""
    if items and str(items[0][0]) == "AT" and str(items[0][1]) in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        items = items[1:]
    if items and str(items[-1][0]) == "AT" and str(items[-1][1]) in ("AT_END", "AT_END_STRING"):
        items = items[:-1]
    return items


def _shown(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 80 else f"{pattern[:77]}...")
