"""Whether every setting of a foreign file is applied, harmless, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["Applied", "Harmless", "Only", "Settings", "check_settings"]


@dataclass(frozen=True, slots=True)
class Applied:
    """Settings that the converter reads: it applies them, or refuses what it cannot apply itself.

    Attributes:
        names: separated by spaces; `rope.*` is for all that begin so.
    """

    names: str


@dataclass(frozen=True, slots=True)
class Harmless:
    """Settings of which vectors and texts of this engine do not depend.

    Attributes:
        names: as of `Applied`.
        why: the reason.
    """

    names: str
    why: str


@dataclass(frozen=True, slots=True)
class Only:
    """Settings that change results and are not applied: refused at any value but these, or null.

    Attributes:
        names: as of `Applied`.
        why: what another value would do.
        values: those at which the setting does nothing.
    """

    names: str
    why: str
    values: tuple[Any, ...]


Verdict = Applied | Harmless | Only


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one kind of file.

    Attributes:
        table: the known ones.
        is_closed: whether what the table does not know is refused. Such is a file that one library
            writes, with few keys, each of which changes results. Elsewhere people leave notes of their own:
            an unknown key is told of, unless its value turns it off.
    """

    table: Sequence[Verdict]
    is_closed: bool = False

    def verdict(self, key: str) -> Verdict | None:
        """What is known of a key; None if nothing is."""
        found: Verdict | None = None
        for verdict in self.table:
            for name in verdict.names.split():
                if name == key:
                    return verdict
                if name.endswith("*") and key.startswith(name[:-1]):
                    found = verdict
        return found


def check_settings(values: UntrustedValues, settings: Settings) -> list[str]:
    """Go through the keys of an object.

    Returns:
        Remarks on keys that are not known.

    Raises:
        ModelLoadError: a setting would change results and cannot be applied; it is named.
    """
    return list(_remarks(values, settings))


def _remarks(values: UntrustedValues, settings: Settings) -> Iterator[str]:
    for key in values:
        value, verdict = values.values[key], settings.verdict(key)
        if verdict is None and not _is_off(value):
            if settings.is_closed:
                raise ModelLoadError(
                    f"{values.named(key)}, which this converter does not know; "
                    "it may change results: update ai-os-diffusion, or remove the key if it does not"
                )
            yield f"{values.named(key)}, which is not known; it was not applied"
        if isinstance(verdict, Only) and value is not None and not _is_one_of(value, verdict.values):
            allowed = ", ".join(map(repr, verdict.values)) or "no such key"
            raise ModelLoadError(
                f"{values.named(key)}, expected {allowed}: {verdict.why}, which this engine does not do"
            )


def _is_off(value: Any) -> bool:
    """Whether a value is what an option has that is not used: null, false, zero, empty."""
    return not value


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    # False is not 0 here, and 1.0 is 1.
    return any(isinstance(value, bool) == isinstance(known, bool) and value == known for known in values)
