"""What people would ask of the items of a document, and where the answers stand."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import tomllib
from documents import Document, Item, plain
from grammar import Grammar, as_typed, first_sentence, lowered
from patterns import (
    DEFAULTS,
    GENERIC,
    HOW,
    NAME,
    NO_VALUE,
    NOUN,
    NUMBERED,
    OPTION,
    PARAMETERS,
    RETURNS,
    WORDY,
)

__all__ = ["Made", "Maker"]


@dataclass(frozen=True)
class Made:
    """A question to an item.

    Attributes:
        kind: of question.
        text: as it is asked.
        item: that answers it.
        span: begin and end of the answer in what is shown of the item; None where all of it answers.
        is_block: whether the answer is the item, of which `span` is the first sentence.
        name: in the question, that another could be exchanged for.
    """

    kind: str
    text: str
    item: Item
    span: tuple[int, int] | None
    is_block: bool = False
    name: str = ""


class Maker:
    """Asks.

    Args:
        grammar: of the documents.
        rng: what is drawn.
    """

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self._grammar, self._rng = grammar, rng
        self._wordings = tomllib.loads((Path(__file__).parent / "wordings.toml").read_text(encoding="utf-8"))

    def questions(self, document: Document) -> Iterator[Made]:
        """All that are asked of a document."""
        for item in document.items:
            if len(item.text) > 6000:
                continue
            of = {"definition": self._definition, "row": self._row, "function": self._function}
            yield from of.get(item.kind, self._paragraph)(document, item)
        for headings, items in groupby(document.items, key=lambda item: item.headings):
            yield from self._heading(document, headings, list(items))

    def _ask(
        self,
        document: Document,
        kind: str,
        item: Item,
        span: tuple[int, int] | None,
        *,
        is_block: bool = False,
        name: str = "",
        **values: str,
    ) -> Iterator[Made]:
        wordings = self._wordings[document.language].get(kind)
        if not wordings:
            return
        prog = document.name
        values = {**values, "prog": prog, "name": name}
        if do := values.get("do"):
            values["does"], values["doing"] = self._grammar.third(do), self._grammar.gerund(do)
        english = self._wordings["en"]
        values["in_prog"] = (
            self._rng.choice(english["in_prog"]).format(prog=prog) if document.language == "en" else ""
        )
        values["In_prog"] = (
            self._rng.choice(english["In_prog"]).format(prog=prog) if document.language == "en" else ""
        )
        question = plain(self._rng.choice(wordings).format_map(values))
        if 5 < len(question) < 220:
            question = (
                question
                if question[:1] == "-" or (name and question.startswith(name))
                else question[:1].upper() + question[1:]
            )
            yield Made(kind, as_typed(question, self._rng), item, span, is_block, name)

    def _span(self, item: Item, text: str, start: int = 0) -> tuple[int, int] | None:
        at = item.shown.find(text, start) if text else -1
        return None if at < 0 else (at, at + len(text))

    def _first(self, item: Item) -> tuple[str, tuple[int, int] | None]:
        """The first sentence of a body, and where it stands."""
        sentence = first_sentence(item.text)
        return sentence, self._span(item, sentence, len(item.term))

    def _definition(self, document: Document, item: Item) -> Iterator[Made]:
        term, section = item.term, " ".join(item.headings[1:]).upper()
        sentence, span = self._first(item)
        if (
            len(item.text) < 12
            or span is None
            or len(term) > 120
            or not WORDY.search(term)
            or GENERIC.match(term.strip(":."))
        ):
            return
        do = self._grammar.imperative(sentence) if len(sentence) < 130 else None
        if term.startswith("-"):
            yield from self._option(document, item, sentence, span, do)
        elif re.fullmatch(r"[\d,\s-]{1,12}", term) and re.search(
            "EXIT|RETURN|STATUS|CODE|DIAGNOSTIC", section
        ):
            yield from self._ask(document, "code_means", item, span, code=term, name=term)
            if len(sentence) < 100:
                yield from self._ask(
                    document, "code_which", item, (0, len(term)), text=lowered(sentence), code=term
                )
        elif term[0] in "/~$" and "/" in term and " " not in term:
            yield from self._ask(document, "path_for", item, span, path=term, name=term)
            noun = re.match(r"(?:the|a|an|this is the|contains the|default)\s+(.{5,70})", sentence, re.I)
            if noun:
                yield from self._ask(document, "path_which", item, (0, len(term)), noun=lowered(noun[1]))
        elif re.fullmatch(r"[A-Z][A-Z0-9_]{2,}(=\S+)?", term):
            yield from self._ask(document, "variable_for", item, span, is_block=True, term=term, name=term)
            if do and "ENVIRON" in section:
                yield from self._ask(document, "variable_which", item, (0, len(term)), do=do)
        elif function := re.match(r"(?:class |static |async |classmethod )?([\w.]*\w)\s?\(", term):
            yield from self._functional(document, item, function[1], sentence, span)
        elif len(term.split()) <= 6:
            name = re.sub(r"\s*[=:(<\[{].*$", "", term) or term
            yield from self._ask(
                document,
                "term_is",
                item,
                span,
                is_block=len(item.text) > len(sentence) + 40,
                term=name,
                name=name,
            )
            if do and len(do) < 90 and len(item.text) > 30 and document.language == "en":
                yield from self._ask(document, "term_which", item, self._span(item, name), do=do)
            yield from self._defaults(document, item, name, sentence)

    def _option(
        self, document: Document, item: Item, sentence: str, span: tuple[int, int], do: str | None
    ) -> Iterator[Made]:
        names = list(dict.fromkeys(OPTION.findall(item.term)))
        if not names:
            return
        name = self._rng.choice(names)
        yield from self._ask(document, "option", item, span, is_block=True, opt=name, name=name)
        if document.language == "en" and do:
            yield from self._ask(document, "how", item, span, is_block=True, do=do)
            # The whole term: every spelling of the option is the answer.
            term = item.term if len(item.term) < 40 else name
            yield from self._ask(document, "which_option", item, self._span(item, term), do=do)
        yield from self._defaults(document, item, name, sentence)

    def _defaults(self, document: Document, item: Item, name: str, sentence: str) -> Iterator[Made]:
        for pattern in DEFAULTS:
            found = pattern.search(item.shown, len(item.term))
            value = found[1].rstrip(".:,-") if found else ""
            if not found or not value or value.lower() in NO_VALUE or len(value) < 1:
                continue
            span = found.start(1), found.start(1) + len(value)
            yield from self._ask(document, "default", item, span, opt=name, name=name)
            noun = NOUN.match(sentence)
            if noun and document.language == "en":
                yield from self._ask(document, "default_of", item, span, noun=noun[1])
            return

    def _paragraph(self, document: Document, item: Item) -> Iterator[Made]:
        if (
            document.kind != "manual"
            or len(item.headings) < 2
            or not re.fullmatch("NAME|NOMBRE|NOM|BEZEICHNUNG", item.headings[1])
        ):
            return
        found = NAME.match(item.text)
        if not found:
            return
        said = self._span(item, found[2])
        yield from self._ask(document, "name_is", item, said)
        if document.language != "en":
            return
        names, do = self._span(item, found[1]), self._grammar.imperative(found[2])
        if do:
            yield from self._ask(document, "name_which", item, names, do=do)
        else:
            noun = re.sub(r"^(an?|the)\s+", "", found[2], flags=re.I)
            yield from self._ask(document, "name_noun", item, names, noun=lowered(noun))

    def _row(self, document: Document, item: Item) -> Iterator[Made]:
        (key, row), *others = item.cells
        if not others or not row or len(row) > 60:
            return
        at = self._rng.randrange(len(others))
        column, value = others[at]
        start = sum(len(text) + 3 for _, text in item.cells[: at + 1])
        if not column or len(column) > 40 or len(value) > 200:
            return
        yield from self._ask(
            document, "cell", item, (start, start + len(value)), column=lowered(column), row=row, name=row
        )
        if len(value) < 30 and key and len(key) < 40:
            yield from self._ask(
                document,
                "cell_row",
                item,
                (0, len(row)),
                column=lowered(column),
                key=lowered(key),
                value=value,
            )

    def _function(self, document: Document, item: Item) -> Iterator[Made]:
        name = re.search(r"(?:def|class) (\w+)", item.term)
        sentence, span = self._first(item)
        if name is None or span is None or not 8 < len(sentence) < 300:
            return
        owner = (
            name[1]
            if len(item.headings) < 2 or self._rng.random() < 0.4
            else f"{item.headings[-1]}.{name[1]}"
        )
        yield from self._functional(document, item, owner, " ".join(sentence.split()), span)
        for parameter, default in item.defaults[:1]:
            if len(default) < 30 and (found := re.search(rf"\b{parameter}(?:: [^=,]+)? ?= ?", item.term)):
                at = item.term.find(default, found.end() - 1)
                if at >= 0:
                    yield from self._ask(
                        document,
                        "parameter_default",
                        item,
                        (at, at + len(default)),
                        name=parameter,
                        owner=owner,
                    )
        told = [found for pattern in PARAMETERS for found in pattern.finditer(item.text)]
        signature = set(re.findall(r"\w+", item.term))
        told = [found for found in told if found[1] in signature and len(found[2].strip()) > 10]
        for found in self._rng.sample(told, min(2, len(told))):
            said = found[2].strip()
            first = first_sentence(said.replace("\n", "  "))
            yield from self._ask(
                document,
                "parameter",
                item,
                self._span(item, said[: len(first)], len(item.term)),
                name=found[1],
                owner=owner,
            )
        if (found := RETURNS.search(item.text)) and len(found[1].strip()) > 6:
            yield from self._ask(
                document, "returns", item, self._span(item, found[1].strip(), len(item.term)), owner=owner
            )

    def _functional(
        self, document: Document, item: Item, name: str, sentence: str, span: tuple[int, int]
    ) -> Iterator[Made]:
        yield from self._ask(document, "function_does", item, span, name=name)
        do = self._grammar.imperative(sentence)
        if do and len(do) < 110 and document.language == "en":
            yield from self._ask(
                document, "function_which", item, self._span(item, name.rpartition(".")[2]), do=do
            )
            yield from self._ask(document, "how", item, span, is_block=True, do=do)

    def _heading(self, document: Document, headings: tuple[str, ...], items: list[Item]) -> Iterator[Made]:
        if not headings or (len(headings) < 2 and document.kind == "manual"):
            return
        head = NUMBERED.sub("", plain(headings[-1])).strip(" :.")
        item = next((one for one in items if one.kind == "paragraph" and len(one.text) > 30), items[0])
        if not 3 < len(head) < 120 or GENERIC.match(head) or item.kind not in ("paragraph", "definition"):
            return
        if document.kind == "manual" and head.isupper():
            if self._rng.random() < 0.8:
                return
            head = head.lower()
        first = first_sentence(item.text)
        span = self._span(item, first, len(item.term))
        how = HOW.match(head)
        first_word = head.split(" ")[0]
        gerund = (
            self._grammar.base(first_word)
            if first_word.lower().endswith("ing") and document.language == "en"
            else None
        )
        if head.endswith("?") and not how:
            yield from self._ask(document, "asked", item, span, is_block=True, head=head)
        elif how:
            yield from self._ask(document, "how", item, span, is_block=True, do=how[1])
            yield from self._ask(document, "asked", item, span, is_block=True, head=head)
        elif gerund and " " in head:
            yield from self._ask(
                document, "how", item, span, is_block=True, do=f"{gerund} {lowered(head.partition(' ')[2])}"
            )
        elif (
            document.language == "en"
            and " " in head
            and self._grammar.is_verb(first_word)
            and first_word[0].isupper()
        ):
            yield from self._ask(
                document,
                "how",
                item,
                span,
                is_block=True,
                do=f"{first_word.lower()} {head.partition(' ')[2]}",
            )
        else:
            shown = lowered(head) if self._rng.random() < 0.7 else head
            yield from self._ask(document, "heading", item, span, is_block=True, head=shown)
