"""Documents of every format in the shapes that cost a reader most, of any size and always the same.

A shape is a function of a random generator and a number that gives the next piece of a document, or a text
that is repeated as it is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping

__all__ = ["SHAPES", "Shape", "pieces", "repeated"]

LETTERS = random.Random(0)
WORDS = [
    "".join(LETTERS.choices("etaoinshrdlucmfwypvbgkjqxz", k=LETTERS.randint(2, 11))) for _ in range(4000)
]

Shape = str | Callable[[random.Random, int], str]


def sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(4, 18))).capitalize() + "."


def paragraph(chance: random.Random) -> str:
    return " ".join(sentence(chance) for _ in range(chance.randint(1, 6)))


def text(chance: random.Random, number: int) -> str:
    title = sentence(chance)
    return (
        f"{title}\n{'=' * len(title)}\n\n{paragraph(chance)}\n\n"
        if number % 9 == 0
        else paragraph(chance) + "\n\n"
    )


def markdown(chance: random.Random, number: int) -> str:
    parts = (
        f"## {sentence(chance)}\n\n{paragraph(chance)}\n\n",
        "".join(f"- {sentence(chance)}\n  - {sentence(chance)}\n" for _ in range(4)) + "\n",
        f"| {sentence(chance)} | b |\n|---|---|\n| {sentence(chance)} | 1 |\n\n",
        f"```python\nx = {number}\n\nprint(x)\n```\n\n> {sentence(chance)}\n\n",
        f"{paragraph(chance)} [link](http://e.org/{number}) *so* `it` is.\n\n",
    )
    return parts[number % len(parts)]


def html(chance: random.Random, number: int) -> str:
    parts = (
        f"<h2 class='title'>{sentence(chance)}</h2>\n<p>{paragraph(chance)}</p>\n",
        "<ul>"
        + "".join(f"<li><a href='/x/{number}'>{sentence(chance)}</a></li>\n" for _ in range(5))
        + "</ul>\n",
        f"<table><tr><th>a<th>b</tr><tr><td>{sentence(chance)}<td><b>{number}</b></tr></table>\n",
        f"<div class='a b'><p>{sentence(chance)} &amp; <i>{sentence(chance)}</i><br>{number}</div>\n",
    )
    return parts[number % len(parts)]


def code(chance: random.Random, number: int) -> str:
    body = f"    int y = x * {number};\n\n    return y;\n"
    return f"/* {sentence(chance)} */\nint f{number}(int x) {{\n{body}}}\n\n"


def python(chance: random.Random, number: int) -> str:
    return (
        f'class C{number}:\n    """{sentence(chance)}"""\n\n    def f(self, x: int) -> int:\n'
        f'        """{sentence(chance)}"""\n        y = "{sentence(chance)}"\n        return x\n\n'
    )


def jsonl(chance: random.Random, number: int) -> str:
    record = {
        "id": number,
        "title": sentence(chance),
        "text": paragraph(chance),
        "tags": ["a", "b"],
        "n": number,
    }
    return json.dumps(record) + "\n"


def json_record(chance: random.Random, number: int) -> str:
    return json.dumps({"id": number, "text": paragraph(chance)}, indent=2) + ",\n"


def python_nested(_chance: random.Random, number: int) -> str:
    depth = number % 90
    return " " * depth + "if x:\n" + (" " * 90 + "x\n" if depth == 89 else "")


def csv(chance: random.Random, number: int) -> str:
    return f'{number},{chance.choice(WORDS)},"{sentence(chance)}",{number / 7:.3f}\n'


def words(chance: random.Random, _number: int) -> str:
    return sentence(chance) + " "


def letters(chance: random.Random, _number: int) -> str:
    return "".join(chance.choices(WORDS, k=99))


def foreign_words(chance: random.Random, _number: int) -> str:
    """Words of scripts that write with spaces, few of them in the vocabulary of an English model."""
    alphabets = (
        "\u0430\u0431\u0432\u0433\u0434\u0435\u0439\u043a\u043b\u043e",
        "\u03b1\u03b2\u03b3\u03b4\u03ad\u03b9\u03ba\u03bf\u03c2",
        "\u0915\u093e\u0928\u0940\u092e\u094d\u0930",
        "\u0627\u0644\u0645\u0643\u062a\u064e\u0628",
        "aeiou\u00e4\u00f6\u00fc\u00e9rst",
    )
    alphabet = chance.choice(alphabets)
    return " ".join("".join(chance.choices(alphabet, k=chance.randint(2, 11))) for _ in range(9)) + ".\n"


LINES: Mapping[str, Shape] = {
    "short_lines": "x\n",
    "short_paragraphs": "x\n\n",
    "blank_lines": "\n",
    "one_line": words,
    "no_spaces": letters,
    "marks": ". , ; ",
    "combining_marks": "e\u0301\u0323 o\u0308\u0304\u0301 ",
    "emoji": "a\U0001f600 ",
    "emoji_words": "so \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea ",
    "foreign_words": foreign_words,
}

SHAPES: Mapping[str, Mapping[str, Shape]] = {
    "txt": {
        "ordinary": text,
        **LINES,
        "titles": lambda _, number: f"t{number}\n======\n\n",
        "short_sentences": "Ab! ",
        "short_items": "- a\n",
        "ideographs": "\u597d\u3002",
        "control_characters": "a\x1b\n",
        "control_words": "a\x1b[1mbc\x1b[0m ",
        "half_runs_of_marks": lambda _, number: "-" * (number % 3000) + "a",
    },
    "rst": {"ordinary": text, "titles": lambda _, number: f"t{number}\n{'=-~^'[number % 4] * 8}\n\nx\n\n"},
    "csv": {
        "ordinary": csv,
        "cells": "1,2,",
        "short_rows": "1,2\n",
        "rows_of_lines": 'a,"b\nc"\n',
        "open_quotes": '"a","\n',
        "closed_quotes": 'a,"b\n',
    },
    "md": {
        "ordinary": markdown,
        **LINES,
        "items": "- x\n",
        "numbered": "1. x\n",
        "loose_items": "- x\n\n",
        "nested_items": lambda _, number: "  " * (number % 40) + "- x\n",
        "quotes": "> x\n\n",
        "nested_quotes": lambda _, number: ">" * (number % 100) + " x\n",
        "quote_marks": ">",
        "item_marks": "- ",
        "headings": lambda _, number: f"{'#' * (1 + number % 6)} t{number}\n",
        "bare_headings": "#\n",
        "underlined": "x\n=\n",
        "rules": "---\n",
        "rows": lambda _, number: "| a | b |\n|---|---|\n" if number == 0 else "| 1 | 2 |\n",
        "cells": lambda _, number: "|a" * 2000 + "|\n" + "|-" * 2000 + "|\n" if number == 0 else "|\n",
        "wide_tables": lambda *_: "|a" * 300 + "|\n" + "|-" * 300 + "|\n" + "x\n" * 9 + "\n",
        "tables": "|a|\n|-|\n\n",
        "fences": "```\nx\n```\n",
        "open_fences": lambda _, number: "`" * (3 + number % 2000) + "\n",
        "indented": "    x\n\n",
        "links": "[a](b) ",
        "definitions": lambda _, number: f"[a{number}]: b\n",
        "footnotes": lambda _, number: f"[^a{number}]: b\n\n",
        "references": lambda _, number: f"[a{number}]: b\n\n[a{number}] [a{number}][]\n\n",
        "open_brackets": "[",
        "open_links": "[a](",
        "pictures": "![",
        "stars": "*a_ ",
        "star_run": "*",
        "backticks": lambda _, number: "`" * (number % 3000) + "a",
        "tags": "<b>\n\n",
        "open_tags": "<a ",
        "comments": "<!-- x -->\n\n",
        "open_comments": "<!--",
        "entities": "&amp;",
        "backslashes": "\\",
    },
    "html": {
        "ordinary": html,
        **LINES,
        "tiny_elements": "<b>x</b> ",
        "tiny_paragraphs": "<p>x",
        "lines_of_elements": "<i>x</i>\n",
        "cells": "<td>x",
        "tables": "<table>",
        "rows": "<table><tr><td>1</table>",
        "text_in_tables": "<table>x",
        "breaks": "<br>",
        "nested": "<div>",
        "formatting": "<b><p>x",
        "misnested": "<b><i></b>x</i>",
        "headings": lambda _, number: f"<h{1 + number % 6}>{number}",
        "lists": "<ul><li>x",
        "attributes": lambda _, number: "<a" if number == 0 else " a=1" * 999,
        "tags_of_attributes": (
            "<p alt=a class=b hidden label=c open placeholder=d role=e style=f type=g value=h>x"
        ),
        "wide_letters": lambda _, number: "\U0001f600" if number == 0 else "<b>word</b> " * 999,
        "reopened": lambda _, number: f"<p><b class='{'x' * 50_000}'>" if number == 0 else "<p>x" * 999,
        "pictures": "<img alt=x>",
        "entities": "&amp;",
        "open_tags": "<a ",
        "comments": "<!---->",
        "open_comments": "<!--",
        "hidden": "<p hidden>x\n",
        "menus": "<nav>x</nav>\n",
        "drawings": "<svg><g>",
        "templates": "<template>x",
        "options": "<select><option>x",
    },
    "jsonl": {
        "ordinary": jsonl,
        "numbers": "1\n",
        "empty": "{}\n",
        "short_records": '{"text": "x"}\n',
        "short_fields": lambda _, number: f'{{"id": {number}, "title": "t", "text": "x", "by": "y"}}\n',
        "many_fields": lambda *_: json.dumps({f"k{i}": i for i in range(1000)}) + "\n",
        "nested": lambda *_: "[" * 400 + "]" * 400 + "\n",
        "too_nested": lambda *_: "[" * 5000 + "\n",
        "vectors": lambda *_: json.dumps([0.5] * 400) + "\n",
        "damaged": lambda _, number: '{"a": 1}\n' if number == 0 else "{x\n",
        "damaged_by_turns": '{x\n"y"\n',
        "damaged_numbers": "x\n1\n",
        "one_field": '{"a":1}\n',
        "short_lists": "[1]\n",
        "blank_lines": "\n" * 99 + "1\n",
        "one_line": lambda _, number: '{"text": "' if number == 0 else "word " * 99,
    },
    "json": {
        "ordinary": json_record,
        "one_line": lambda _, number: f'{{"id":{number},"a":[1,2]}},',
        "short_lines": "1,\n",
        "brackets": "[",
    },
    "c": {
        "ordinary": code,
        **LINES,
        "indented": "\tx\n\n",
        "closing": "}\n\n",
        "base64": lambda chance, _: "".join(chance.choices("abcDEF0123+/ghiJKL", k=76)) + "\n",
        "long_words": "a" * 200 + " ",
        "data_uris": "data:a/b,c ",
        "data_prefixes": "data:",
        "data_parameters": "data:a/b;a=",
        "half_runs": "abcdefghijklmnop,",
    },
    "py": {
        "ordinary": python,
        "functions": lambda _, number: f"def f{number}():pass\n",
        "statements": "x=1\n",
        "short_lines": "x\n",
        "nested": python_nested,
        "brackets": "(",
        "comments": "#\n",
    },
}


def pieces(extension: str, shape: str, size_bytes: int) -> Iterator[str]:
    """A document of about a size, piece by piece; the pieces together are its text."""
    return repeated(SHAPES[extension][shape], size_bytes)


def repeated(made: Shape, size_bytes: int) -> Iterator[str]:
    """Pieces of a shape, of about a size together."""
    chance, written, number = random.Random(1), 0, 0
    while written < size_bytes:
        if isinstance(made, str):
            piece = made * max(1, min(size_bytes - written, 1 << 20) // len(made.encode()))
        else:
            piece = made(chance, number)
        yield piece
        written += len(piece.encode())
        number += 1
