"""Short notes that say what a form asks for, with values drawn at random."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fields import FIELDS, Field

_MONTHS = "January February March April May June July August September October November December".split()

_EMPTY = 0.4
"""Share of the fields that the notes say nothing of."""

_NEAR = 0.5
"""Of these, those beside which notes give a value of the same kind to something else."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A field of a form, filled; what the notes do not say is empty."""

    name: str
    value: str
    is_list: bool = False


class Notes:
    """Draws notes and the form that they fill.

    Args:
        texts: where names and words are taken from, so that no short list of them is learned by heart.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        names, words = set(), set()
        for text in texts:
            names.update(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})+", text))
            words.update(re.findall(r"(?<=[a-z] )[a-z]{4,12}(?=[ ,.])", text))
        self._names, self._words = sorted(names), sorted(words)
        self._said: dict[str, Callable[[random.Random], tuple[str, str]]] = {
            "name": lambda rng: _alike(self._name(rng)),
            "word": lambda rng: _alike(" ".join(rng.choices(self._words, k=rng.choice([1, 1, 2])))),
            "date": lambda rng: _alike(_date(rng)),
            "time": lambda rng: _alike(_time(rng)),
            "amount": _amount,
            "count": lambda rng: _alike(str(rng.randint(1, rng.choice([9, 120, 2000])))),
            "phone": lambda rng: _alike(_phone(rng)),
            "email": lambda rng: _alike(self._email(rng)),
            "code": lambda rng: _alike(_code(rng)),
        } | {unit: _measure(*spellings) for unit, spellings in _UNITS.items()}

    def draw(self, rng: random.Random, others: list[str]) -> tuple[str, list[Filled]]:
        """Notes as text, and the fields with their values; what the notes do not say is empty.

        Args:
            rng: source of randomness.
            others: sentences on other matters; in half of the cases they stand among the notes.
        """
        drawn = rng.sample(FIELDS, rng.randint(2, 7) + 2)
        asked, beside = drawn[:-2], drawn[-2 : -2 + rng.choice([0, 0, 1, 2])]
        clauses, filled, taken = [], [], set[str]()
        for field in asked:
            name = rng.choice(field.names)
            if name in taken:
                continue
            taken.add(name)
            if rng.random() < _EMPTY:
                filled.append(Filled(name, "", field.is_list))
                if rng.random() < _NEAR:
                    alike = [other for other in FIELDS if other.value == field.value and other not in asked]
                    beside.append(rng.choice(alike or FIELDS))
                continue
            clause, value = self._clause(rng, field)
            clauses.append(clause)
            filled.append(Filled(name, value, field.is_list))
        # What is said of other fields must not be taken for an answer.
        clauses += [self._clause(rng, field)[0] for field in beside]
        rng.shuffle(clauses)
        said = _sentences(rng, clauses)
        if rng.random() < 0.5 or not said:
            said += others
            rng.shuffle(said)
        rng.shuffle(filled)
        return rng.choice([" ", "\n", "\n- "]).join(said), filled

    def _clause(self, rng: random.Random, field: Field) -> tuple[str, str]:
        """What notes say of a field, and the value that a form then has."""
        if field.value == "truth":
            is_so = rng.random() < 0.5
            return rng.choice(field.clauses if is_so else field.denials), "true" if is_so else "false"
        drawn = [self._said[field.value](rng) for _ in range(rng.randint(1, 5) if field.is_list else 1)]
        said = [text for text, _ in drawn]
        text = " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))
        return rng.choice(field.clauses).format(text), '", "'.join(value for _, value in drawn)

    def _name(self, rng: random.Random) -> str:
        name = rng.choice(self._names)
        return name if rng.random() < 0.6 else rng.choice(name.split())

    def _email(self, rng: random.Random) -> str:
        name = rng.choice(self._names).split()[-1].lower()
        return f"{name}@{rng.choice(self._words)}.{rng.choice(['com', 'org', 'net'])}"


def _sentences(rng: random.Random, clauses: list[str]) -> list[str]:
    """Clauses as sentences, some of which hold several."""
    said, rest = [], list(clauses)
    while rest:
        count = rng.choice([1, 1, 1, 2, 3])
        text = rng.choice([", ", ", ", " and ", "; "]).join(rest[:count])
        said.append(text[:1].upper() + text[1:] + rng.choice([".", ".", ".", ""]))
        rest = rest[count:]
    return said


def _alike(text: str) -> tuple[str, str]:
    return text, text


def _phone(rng: random.Random) -> str:
    return (
        f"{rng.choice(['0', '+', ''])}{rng.randint(100, 9999)}{rng.choice('- ')}{rng.randint(1000, 999999)}"
    )


def _code(rng: random.Random) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    if rng.random() < 0.5:
        parts = rng.choices(letters, k=rng.randint(1, 3)), rng.choices("0123456789", k=rng.randint(1, 5))
        return rng.choice(["", "", "-", " "]).join(map("".join, parts))
    return "".join(rng.choices(letters + "0123456789", k=rng.randint(4, 8)))


def _date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1950, 2030)
    name = _MONTHS[month - 1]
    written = (
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
        f"{year}-{month:02d}-{day:02d}",
        f"{day} {name}",
        f"{name} {day}",
    )
    return rng.choice(written)


def _time(rng: random.Random) -> str:
    hour, minute = rng.randint(0, 23), rng.choice([0, 15, 30, 45, rng.randint(0, 59)])
    half = "am" if hour < 12 else "pm"
    return rng.choice(
        [f"{hour}:{minute:02d}", f"{hour % 12 or 12}:{minute:02d} {half}", f"{hour % 12 or 12} {half}"]
    )


def _amount(rng: random.Random) -> tuple[str, str]:
    """As notes say it; most forms want the bare number."""
    number = rng.choice([rng.randint(1, 999), rng.randint(1000, 99999), round(rng.uniform(1, 300), 2)])
    bare = f"{number:.2f}" if isinstance(number, float) or rng.random() < 0.15 else str(number)
    text = f"{number:,}" if isinstance(number, int) and rng.random() < 0.3 else bare
    said = rng.choice(["${}", "{} euros", "{} dollars", "£{}", "{} EUR", "€{}", "{}"]).format(text)
    return said, rng.choice([bare, bare, bare, said])


_UNITS = {
    "kg": ("kg", " kg", " kilos"),
    "cm": ("cm", " cm", " centimetres"),
    "km": ("km", " km", " kilometres", " miles"),
    "degrees": (" degrees", "°", "°C"),
    "minutes": (" minutes", " min", " mins"),
    "sqm": (" square metres", " m²", " sqm"),
    "bar": (" bar",),
    "percent": ("%", " %", " percent"),
}
"""Units, and how notes write them."""


def _measure(*units: str) -> Callable[[random.Random], tuple[str, str]]:
    def draw(rng: random.Random) -> tuple[str, str]:
        bare = rng.choice([str(rng.randint(1, 400)), f"{rng.uniform(0.1, 99):.1f}"])
        said = bare + rng.choice(units)
        return said, rng.choice([bare, bare, bare, said])

    return draw
