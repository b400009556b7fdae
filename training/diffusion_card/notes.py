"""Short notes that say what a form asks for, with values drawn at random."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_MONTHS = "January February March April May June July August September October November December".split()


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form: the kind of its value and sentences that say it."""

    value: str
    sentences: tuple[str, ...]
    is_list: bool = False


FIELDS = {
    "name": Field(
        "name", ("{} is the one to talk to.", "I met {} there.", "Booked by {}.", "Name: {}", "Signed, {}")
    ),
    "customer": Field(
        "name", ("The order came from {}.", "{} ordered it.", "Customer: {}", "Bill it to {}.")
    ),
    "contact": Field("name", ("Ask for {}.", "{} will answer questions.", "Contact {} about it.")),
    "author": Field("name", ("It was written by {}.", "{} wrote it.", "Author: {}")),
    "place": Field("name", ("We meet at {}.", "It takes place in {}.", "Location: {}", "Come to {}.")),
    "city": Field(
        "name", ("They moved to {}.", "The office in {} handles it.", "City: {}", "She lives in {}.")
    ),
    "company": Field(
        "name", ("{} made the offer.", "The supplier is {}.", "Company: {}", "He works for {}.")
    ),
    "date": Field("date", ("It is on {}.", "The meeting was moved to {}.", "Date: {}", "On {} we start.")),
    "due": Field("date", ("It must be paid by {}.", "Due {}.", "The last day to pay is {}.")),
    "birthday": Field("date", ("Born on {}.", "The birthday is {}.", "Her date of birth: {}")),
    "deadline": Field(
        "date", ("Everything has to be in by {}.", "The deadline is {}.", "No later than {}, please.")
    ),
    "time": Field("time", ("It starts at {}.", "Doors open at {}.", "At {} sharp.", "Time: {}")),
    "amount": Field("amount", ("The bill came to {}.", "I paid {}.", "Amount: {}", "That makes {}.")),
    "price": Field("amount", ("It costs {}.", "The price is {}.", "They ask {} for it.")),
    "total": Field("amount", ("In total {}.", "Total: {}", "The sum is {}.")),
    "cost": Field("amount", ("The repair cost {}.", "It will cost about {}.", "Costs: {}")),
    "count": Field("count", ("There were {} of them.", "{} people came.", "Count: {}")),
    "quantity": Field("count", ("Please send {} pieces.", "Quantity: {}", "We need {} of these.")),
    "age": Field("count", ("He is {} years old.", "Age: {}", "At {}, she is the oldest.")),
    "guests": Field("count", ("A table for {}.", "{} guests are expected.", "Party of {}.")),
    "phone": Field("phone", ("Call {}.", "Phone: {}", "The number is {}.")),
    "email": Field("email", ("Write to {}.", "Mail: {}", "The address is {}.")),
    "code": Field(
        "code", ("The reference is {}.", "Order number {}.", "Use code {} at the door.", "Ticket {}.")
    ),
    "items": Field("word", ("Bring {}.", "We need {}.", "Shopping: {}", "On the list: {}."), is_list=True),
}


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
        self._values: dict[str, Callable[[random.Random], str]] = {
            "name": lambda rng: rng.choice(self._names),
            "word": lambda rng: rng.choice(self._words),
            "date": _date,
            "time": _time,
            "amount": _amount,
            "count": lambda rng: str(rng.randint(1, 120)),
            "phone": lambda rng: f"{rng.randint(100, 999)}{rng.choice('- ')}{rng.randint(1000, 999999)}",
            "email": self._email,
            "code": lambda rng: "".join(
                rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=rng.randint(4, 8))
            ),
        }

    def draw(self, rng: random.Random, others: list[str]) -> tuple[str, list[tuple[str, str]]]:
        """Notes as text, and the fields with their values; what the notes do not say is empty.

        Args:
            rng: source of randomness.
            others: sentences on other matters; in half of the cases they stand among the notes.
        """
        asked = rng.sample(list(FIELDS), rng.randint(2, 6))
        said, values = [], []
        for name in asked:
            items = [
                self._values[FIELDS[name].value](rng)
                for _ in range(rng.randint(1, 5) if FIELDS[name].is_list else 1)
            ]
            if rng.random() < 0.18:
                values.append((name, ""))
                continue
            text = " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
            said.append(rng.choice(FIELDS[name].sentences).format(text))
            values.append((name, '", "'.join(items)))
        # What is said of other fields must not be taken for an answer.
        beside = rng.sample([field for name, field in FIELDS.items() if name not in asked], rng.randint(0, 1))
        said += [rng.choice(field.sentences).format(self._values[field.value](rng)) for field in beside]
        if rng.random() < 0.5 or not said:
            said += others
        rng.shuffle(said)
        rng.shuffle(values)
        return rng.choice([" ", "\n", "\n- "]).join(said), values

    def _email(self, rng: random.Random) -> str:
        name = rng.choice(self._names).split()[-1].lower()
        return f"{name}@{rng.choice(self._words)}.{rng.choice(['com', 'org', 'net'])}"


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


def _amount(rng: random.Random) -> str:
    number = rng.choice([rng.randint(1, 999), rng.randint(1000, 99999), round(rng.uniform(1, 300), 2)])
    text = f"{number:,}" if rng.random() < 0.4 else str(number)
    return rng.choice(["${}", "{} euros", "{} dollars", "£{}", "{} EUR", "€{}"]).format(text)
