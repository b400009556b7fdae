"""Fields of forms: their names, and how notes say their values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form.

    Attributes:
        names: what a form may call it.
        value: the kind of its value.
        clauses: how notes say it, each with a place for the value; of a truth value those that say so.
        denials: how notes say that something is not so.
        is_list: whether it has several values.
    """

    names: tuple[str, ...]
    value: str
    clauses: tuple[str, ...]
    denials: tuple[str, ...] = ()
    is_list: bool = False


def _named(word: str, value: str, names: str, clauses: str) -> Field:
    """A field of a word, as "the price" or "price: 3"; names and clauses are cut at "|"."""
    filled = {"word": word, "key": word.replace(" ", "_"), "title": word.capitalize()}
    return Field(
        tuple(name.format(**filled) for name in names.split("|")),
        value,
        tuple(clause.format(**filled, at="{}") for clause in clauses.split("|")),
    )


def _family(words: str, value: str, names: str, clauses: str) -> list[Field]:
    return [_named(word, value, names, clauses) for word in words.split("|")]


_PEOPLE = _family(
    "agent|applicant|author|buyer|caller|coach|contact|contact person|customer|dentist|doctor|driver|"
    "editor|host|instructor|landlord|lender|manager|nurse|organiser|owner|patient|photographer|plumber|"
    "recipient|seller|sender|speaker|supplier|teacher|technician|tenant|trainer|translator|witness",
    "name",
    "{key}|{key}|{key}_name|name_of_{key}",
    "{title}: {at}|the {word} is {at}|{at} is the {word}|our {word}, {at}, knows about it|{word} {at}",
)
_PLACES = _family(
    "address|airport|branch|city|destination|hall|hotel|location|meeting point|office|place|restaurant|"
    "room|school|shop|station|street|venue|warehouse",
    "name",
    "{key}|{key}|{key}_name",
    "{title}: {at}|the {word} is {at}|{word} {at}|as {word} we chose {at}",
)
_DATES = _family(
    "arrival|birth|check in|check out|collection|delivery|departure|due|end|exam|expiry|flight|inspection|"
    "interview|issue|meeting|moving|opening|order|payment|pickup|purchase|renewal|repair|return|review|"
    "service|start|surgery|test|trip|visit|wedding",
    "date",
    "{key}_date|{key}_date|{key}|date_of_{key}|{key}_on",
    "{title}: {at}|the {word} is on {at}|{word} on {at}|{at}: {word}|the {word} was moved to {at}",
)
_TIMES = _family(
    "arrival|closing|departure|dinner|lesson|meeting|opening|pickup|start|train|visit",
    "time",
    "{key}_time|{key}_time|{key}|{key}_at",
    "{title}: {at}|the {word} is at {at}|{word} at {at}|{word} {at} sharp",
)
_AMOUNTS = _family(
    "balance|bid|budget|cost|deposit|discount|donation|fare|fee|fine|insurance|loan|offer|price|refund|"
    "rent|repair|reward|salary|shipping|tax|ticket|tip|total",
    "amount",
    "{key}|{key}|{key}_amount|{key}_cost|amount_of_{key}",
    "{title}: {at}|the {word} is {at}|{word} {at}|{at} {word}|we agreed on {at} as {word}|{at} for {word}",
)
_COUNTS = _family(
    "adults|beds|bottles|boxes|chairs|children|copies|days|doses|employees|floors|guests|hours|members|"
    "nights|pages|pairs|people|pieces|plates|players|rooms|seats|shelves|students|tickets|volunteers|"
    "weeks|windows",
    "count",
    "{key}|{key}|number_of_{key}|{key}_count",
    "{at} {word}|{at} {word} in all|there are {at} {word}|we need {at} {word}|{title}: {at}",
)
_MEASURES = [
    _named(
        word,
        value,
        "{key}|{key}_" + value + "|total_{key}",
        "{title}: {at}|the {word} is {at}|{word} {at}|{at}",
    )
    for words, value in (
        ("weight|load|baggage", "kg"),
        ("height|width|length|depth", "cm"),
        ("distance|mileage|route", "km"),
        ("temperature|fever", "degrees"),
        ("duration|delay|walk", "minutes"),
        ("area|surface", "sqm"),
        ("pressure", "bar"),
        ("share|humidity", "percent"),
    )
    for word in words.split("|")
]
_CODES = _family(
    "booking|bus|case|claim|contract|door code|flight|gate|invoice|locker|model|order|part|platform|"
    "policy|reference|registration|serial number|ticket|tracking|voucher",
    "code",
    "{key}|{key}_number|{key}_code|{key}_id",
    "{title}: {at}|the {word} is {at}|{word} {at}|{word} number {at}",
)
_LISTS = [
    Field(tuple(names.split("|")), "word", tuple(clauses.split("|")), is_list=True)
    for names, clauses in (
        ("items|shopping_list|to_buy|groceries", "bring {}|we need {}|shopping: {}|on the list: {}|get {}"),
        ("ingredients", "it takes {}|ingredients: {}|made with {}|mix {}"),
        ("topics|agenda|subjects", "we talked about {}|agenda: {}|topics are {}|on the agenda: {}"),
        ("tools|equipment", "take {} along|tools: {}|you need {}"),
        ("symptoms|complaints", "complains of {}|symptoms: {}|suffers from {}"),
        ("colours|colors", "it comes in {}|colours: {}"),
        ("materials", "made of {}|materials: {}"),
        ("allergies", "allergic to {}|allergies: {}|no {} please, allergic"),
    )
] + [
    Field(tuple(names.split("|")), "name", tuple(clauses.split("|")), is_list=True)
    for names, clauses in (
        ("attendees|participants|present", "present: {}|{} were there|{} took part"),
        ("absent|apologies", "{} could not come|apologies from {}|{} sent their apologies"),
        ("stops|cities_visited", "we stop in {}|via {}|stops: {}"),
        ("authors|speakers", "by {}|talks by {}|written by {}"),
    )
]
_TRUTHS = [
    Field(tuple(names.split("|")), "truth", tuple(yes.split("|")), tuple(no.split("|")))
    for names, yes, no in (
        (
            "paid|is_paid",
            "already paid|paid in full|the bill is settled",
            "not paid yet|still to be paid|the bill is open",
        ),
        (
            "breakfast_included|breakfast",
            "breakfast included|with breakfast",
            "without breakfast|breakfast is extra",
        ),
        ("pets_allowed", "pets are welcome|dogs may stay", "no pets|pets are not allowed"),
        (
            "confirmed|is_confirmed",
            "this is confirmed|they confirmed it",
            "not confirmed yet|they have yet to confirm",
        ),
        ("signed", "both have signed|it is signed", "nobody signed yet|the signature is missing"),
        ("furnished", "comes furnished|fully furnished", "unfurnished|it is empty, no furniture"),
        ("delivered", "it arrived|the parcel came", "it has not arrived|the parcel never came"),
        ("vegetarian", "no meat in it|it is vegetarian", "with beef in it|there is meat in it"),
        (
            "parking|parking_available",
            "there is parking|you can park there",
            "no parking|one cannot park there",
        ),
        (
            "cancelled",
            "it was called off|this is cancelled",
            "it goes ahead as planned|it takes place after all",
        ),
        ("refundable", "you get the money back if you cancel|refundable", "no refunds|cannot be refunded"),
        ("urgent", "this is urgent|it cannot wait", "no hurry|it can wait"),
        ("smoker", "smokes|is a smoker", "does not smoke|gave up smoking years ago"),
        ("insured", "it is insured|insurance covers it", "not insured|no insurance on it"),
        (
            "online",
            "we meet by video|it is held online",
            "in person, not online|we meet at the office itself",
        ),
    )
]
_OTHERS = [
    Field(
        ("phone", "phone_number", "telephone", "mobile"),
        "phone",
        ("call {}", "phone: {}", "the number is {}"),
    ),
    Field(("email", "email_address", "mail"), "email", ("write to {}", "mail: {}", "the address is {}")),
    Field(("company", "employer", "firm"), "name", ("{} made the offer", "company: {}", "works for {}")),
    Field(("name", "full_name"), "name", ("name: {}", "signed, {}", "I met {} there", "booked by {}")),
    Field(("age", "age_years"), "count", ("{} years old", "age: {}", "aged {}")),
    Field(("date", "day"), "date", ("it is on {}", "date: {}", "on {} we start", "{}")),
    Field(("deadline", "due_by"), "date", ("no later than {}", "the deadline is {}", "has to be in by {}")),
    Field(("time", "hour"), "time", ("it starts at {}", "time: {}", "at {}")),
    Field(
        ("subject", "product", "item", "object"),
        "word",
        ("about the {}", "one {}", "item: {}", "the {} is broken"),
    ),
]

FIELDS = tuple(
    itertools.chain(
        *(_PEOPLE, _PLACES, _DATES, _TIMES, _AMOUNTS, _COUNTS, _MEASURES, _CODES, _LISTS, _TRUTHS, _OTHERS)
    )
)
