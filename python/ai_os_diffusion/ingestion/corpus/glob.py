"""Glob: a pattern of names and paths as git has it (wildmatch), matched in bounded time, whatever it says.

Names are bytes, as they are for git: `?` stands for one of them. What a regular expression would do in one, a
hostile file could make take years; here a run between two stars is found once and never looked for again, so
that a match costs at most the length of the pattern times that of the path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Glob"]

_CLASSES: Mapping[bytes, Callable[[bytes], bool]] = {
    b"alnum": bytes.isalnum,
    b"alpha": bytes.isalpha,
    b"blank": lambda byte: byte in b" \t",
    b"cntrl": lambda byte: byte[0] < 32 or byte[0] == 127,
    b"digit": bytes.isdigit,
    b"graph": lambda byte: 32 < byte[0] < 127,
    b"lower": bytes.islower,
    b"print": lambda byte: 31 < byte[0] < 127,
    b"punct": lambda byte: 32 < byte[0] < 127 and not byte.isalnum(),
    b"space": bytes.isspace,
    b"upper": bytes.isupper,
    b"xdigit": lambda byte: byte in b"0123456789abcdefABCDEF",
}
_CLASS = re.compile(rb"\[:([^\]]*):\]")

_Token = bytes | None
"""The bytes that one of a name may be, in order; none for a star, and None for a slash."""

_STAR = b""
_SLASH = ord("/")
# Names hold no slash.
_ANY = bytes(range(256))


class Glob:
    """A pattern of `*` (any of a name), `?`, `[a-z]`, `[!a]` and, between slashes, `**` (any folders)."""

    def __init__(self, pattern: bytes) -> None:
        """Read a pattern; one that is not well-formed matches nothing.

        Args:
            pattern: names parted by slashes.
        """
        segments: list[list[bytes]] = [[]]
        try:
            for token in _tokens(pattern):
                if token is None:
                    segments.append([])
                else:
                    segments[-1].append(token)
        except IndexError:
            segments = []
        # A segment of stars alone, two or more, is any number of folders: None.
        self._segments = [
            None if len(segment) > 1 and not any(segment) else _Segment(segment) for segment in segments
        ]

    def matches_name(self, name: bytes) -> bool:
        """Whether a name is one of the pattern's, which has no slash."""
        return len(self._segments) == 1 and (self._segments[0] is None or self._segments[0].matches(name))

    def matches_path(self, names: Sequence[bytes]) -> bool:
        """Whether all of a path is one of the pattern's.

        Args:
            names: of the path, outermost first.
        """
        segments, at, number = self._segments, 0, 0
        # Where to go on when what follows the last `**` was not there.
        after, again = -1, 0
        while at < len(names):
            if number < len(segments):
                segment = segments[number]
                if segment is None:
                    if number == len(segments) - 1:
                        return True
                    after, again = number + 1, at
                    number += 1
                    continue
                if segment.matches(names[at]):
                    at, number = at + 1, number + 1
                    continue
            if after < 0:
                return False
            again += 1
            at, number = again, after
        return number == len(segments) > 0


class _Segment:
    """What one name is compared with: runs of single bytes, stars between them."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._runs: list[re.Pattern[bytes]] = []
        self._lengths: list[int] = []
        run: list[bytes] = []
        for token in (*tokens, _STAR):
            if token:
                run.append(token)
                continue
            # Each stands for one byte, so that a run has one length.
            self._runs.append(re.compile(b"".join(map(_written, run)), re.DOTALL))
            self._lengths.append(len(run))
            run = []

    def matches(self, name: bytes) -> bool:
        """Whether a name fits."""
        first, *others = self._runs
        if not others:
            return first.fullmatch(name) is not None
        at, end = self._lengths[0], len(name) - self._lengths[-1]
        if at > end or not first.match(name) or not others[-1].match(name, end):
            return False
        for run in others[:-1]:
            found = run.search(name, at, end)
            if found is None:
                return False
            at = found.end()
        return True


def _written(token: bytes) -> bytes:
    """A byte, or one of several, as a regular expression."""
    if token == _ANY:
        return b"."
    return re.escape(token) if len(token) == 1 else b"[%b]" % b"".join(map(re.escape, _bytes_of(token)))


def _bytes_of(token: bytes) -> Iterator[bytes]:
    return (token[at : at + 1] for at in range(len(token)))


def _tokens(pattern: bytes) -> Iterator[_Token]:
    """The pattern piece by piece.

    Raises:
        IndexError: a bracket or an escape has no end, or names no class of characters.
    """
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == ord("*"):
            yield _STAR
        elif byte == ord("?"):
            yield _ANY
        elif byte == ord("["):
            members, at = _bracket(pattern, at)
            yield members
        else:
            if byte == ord("\\"):
                byte = pattern[at]
                at += 1
            yield None if byte == _SLASH else bytes([byte])


def _bracket(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The bytes that a bracket stands for, and where the pattern goes on."""
    is_negated = pattern[at] in b"!^"
    at += is_negated
    members: set[int] = set()
    before: int | None = None
    begin = at
    while pattern[at] != ord("]") or at == begin:
        byte = pattern[at]
        if byte == ord("-") and before is not None and pattern[at + 1] != ord("]"):
            last, at = _literal(pattern, at + 1)
            members.update(range(before, last + 1))
            before = None
        elif found := _CLASS.match(pattern, at):
            if found[1] not in _CLASSES:
                raise IndexError
            members.update(value for value in range(128) if _CLASSES[found[1]](bytes([value])))
            before, at = None, found.end()
        else:
            before, at = _literal(pattern, at)
            members.add(before)
    kept = bytes(value for value in range(256) if (value in members) != is_negated)
    # No name holds a slash, so it stands for nothing.
    return kept or b"/", at + 1


def _literal(pattern: bytes, at: int) -> tuple[int, int]:
    """A byte, behind its backslash where it has one, and where the pattern goes on."""
    at += pattern[at] == ord("\\")
    return pattern[at], at + 1
