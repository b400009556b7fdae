"""Times as people and programs write them, in microseconds since the epoch."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction

import numpy as np

from ai_os_diffusion.utils.errors import StorageError

__all__ = ["iso_time", "micros_in", "micros_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
# What a date can say; the store holds its times to the same bounds.
_FIRST = (datetime.min.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=timezone.utc) - _EPOCH) // _MICROSECOND
_UNITS = {
    "D": Fraction(86_400_000_000),
    "h": Fraction(3_600_000_000),
    "m": Fraction(60_000_000),
    "s": Fraction(1_000_000),
    "ms": Fraction(1000),
    "us": Fraction(1),
    "ns": Fraction(1, 1000),
}


def micros_of(value: object, where: str) -> int:
    """Read a time: a date, a text in ISO 8601, or a number of seconds since the epoch.

    A date without a zone is one of UTC.

    Raises:
        StorageError: it is none of these, or not in the years 1 to 9999; the message begins with `where`.
    """
    if isinstance(value, np.datetime64):
        unit, step = np.datetime_data(value.dtype)
        if np.isnat(value) or unit not in _UNITS:
            raise _refusal(value, where)
        return micros_in(int(value.astype(np.int64)) * step, unit, where)
    if isinstance(value, (bool, np.bool_)):
        raise _refusal(value, where)
    if isinstance(value, (int, np.integer)):
        return micros_in(int(value), "s", where)
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise _refusal(value, where)
        return _within(round(float(value) * 1e6), value, where)
    if isinstance(value, str):
        value = _parsed(value, where)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise _refusal(value, where)
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return _within((value - _EPOCH) // _MICROSECOND, value, where)


def micros_in(value: int, unit: str, where: str) -> int:
    """Read a whole number of `D`, `h`, `m`, `s`, `ms`, `us` or `ns` since the epoch.

    Raises:
        StorageError: it is not in the years 1 to 9999; the message begins with `where`.
    """
    return _within(math.floor(value * _UNITS[unit]), f"{value} {unit}", where)


def iso_time(seconds: float) -> str | float:
    """Write seconds since the epoch in ISO 8601; what no date can say stays a number.

    Stores took such times before they were refused.
    """
    try:
        moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return seconds
    return moment.isoformat(timespec="microseconds")


def _parsed(text: str, where: str) -> datetime:
    # Python 3.10 reads neither the zone Z nor fractions of other than three or six digits.
    plain = re.sub(r"[Zz]$", "+00:00", text.strip())
    plain = re.sub(r"\.(\d+)", lambda digits: f".{digits[1][:6]:0<6}", plain)
    try:
        return datetime.fromisoformat(plain)
    except ValueError:
        raise _refusal(text, where) from None


def _within(micros: int, value: object, where: str) -> int:
    if not _FIRST <= micros <= _LAST:
        raise _refusal(value, where)
    return micros


def _refusal(value: object, where: str) -> StorageError:
    shown = value if isinstance(value, (int, float)) else repr(str(value)[:100])
    return StorageError(
        f"{where}: expected a time of the years 1 to 9999, as a date, in ISO 8601 or in seconds since 1970, "
        f"got {shown}"
    )
