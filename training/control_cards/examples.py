"""Pairs for both controls: `examples.py OUT [--model smollm2]`.

What is said is the base's own: its answer to each question, cut into sentences and built anew. So a control
learns how to build an answer, and hardly what to say. Nothing is drawn from data of others.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from prompts import prompts

from ai_os_diffusion.inference import ArrowEngine

CONTROLS = ("list", "reply")
"""A list of points; and a call of the tool `reply`, a JSON object."""

SCHEMA = {
    "type": "object",
    "properties": {
        "tool": {"const": "reply"},
        "arguments": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "keywords": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
            },
            "required": ["text", "keywords"],
            "additionalProperties": False,
        },
    },
    "required": ["tool", "arguments"],
    "additionalProperties": False,
}
"""Of `reply`, as JSON schema has it."""

_ROOM = 96
_LEAST, _MOST = 2, 4
"""Sentences of a list."""

_SHORTEST, _LONGEST = 20, 200
"""Characters of a sentence."""

_KEYWORDS, _LETTERS = 3, 6
_MARK = re.compile(r"^\s*(?:[-*#>]+|\d+[.)])\s*")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")
_ABOUT = {"people", "because", "various", "several", "through", "between", "should", "including", "during"}


def sentences(answer: str) -> list[str]:
    """The whole sentences of a text, without what it was built of: marks of lists and words in bold."""
    lines = (_MARK.sub("", line).replace("**", "") for line in answer.splitlines())
    found = [part.strip() for line in lines for part in _END.split(line)]
    return [part for part in found if part.endswith((".", "!", "?")) and _SHORTEST <= len(part) <= _LONGEST]


def keywords(sentence: str) -> list[str]:
    """Its first few long words."""
    words = [word.lower() for word in re.findall(r"[A-Za-z]+", sentence)]
    long = [word for word in words if len(word) >= _LETTERS and word not in _ABOUT]
    return list(dict.fromkeys(long))[:_KEYWORDS]


def as_list(said: list[str]) -> str | None:
    """A point a sentence; None where there are too few."""
    return "\n".join(f"- {one}" for one in said[:_MOST]) if len(said) >= _LEAST else None


def as_reply(said: list[str]) -> str | None:
    """A call of the tool with the first sentence; None where there is none."""
    found = keywords(said[0]) if said else []
    if not found:
        return None
    call = {"tool": "reply", "arguments": {"text": said[0], "keywords": found}}
    return json.dumps(call, ensure_ascii=False)


def is_reply(text: str) -> bool:
    """Whether a text is a JSON value that `SCHEMA` allows."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or found.keys() != {"tool", "arguments"} or found["tool"] != "reply":
        return False
    given = found["arguments"]
    if not isinstance(given, dict) or given.keys() != {"text", "keywords"}:
        return False
    words = given["keywords"]
    is_list = isinstance(words, list) and 1 <= len(words) <= _KEYWORDS
    return isinstance(given["text"], str) and is_list and all(isinstance(word, str) for word in words)


def is_list(text: str) -> bool:
    """Whether a text is two points or more and nothing else."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return len(lines) >= _LEAST and all(re.match(r"\s*[-*•] +\S", line) for line in lines)


def answers(engine: ArrowEngine, asked: Iterable[str], room: int = _ROOM) -> list[str]:
    """What an engine says to each question, as it is now."""

    def answer(question: str) -> str:
        return str(engine.generate(messages=[{"role": "user", "content": question}], max_tokens=room)).strip()

    # Texts of several threads share their passes; each uses the cards that are in use here.
    questions = list(asked)
    contexts = [copy_context() for _ in questions]
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda context, one: context.run(answer, one), contexts, questions))


def main() -> None:
    """Write `list.jsonl`, `reply.jsonl`, and `list_test.jsonl`, `reply_test.jsonl` for the gate."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--most", type=int, default=128, help="questions that are learned from")
    parser.add_argument("--most-test", type=int, default=24, help="questions of the gate")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with ArrowEngine(given.model) as engine:
        for ending, held_out, most in (("", False, given.most), ("_test", True, given.most_test)):
            asked = prompts(held_out=held_out)[:most]
            said = [sentences(answer) for answer in answers(engine, asked)]
            for name, build in zip(CONTROLS, (as_list, as_reply), strict=True):
                pairs = [(question, build(one)) for question, one in zip(asked, said, strict=True)]
                lines = [json.dumps({"q": q, "a": a}, ensure_ascii=False) for q, a in pairs if a is not None]
                (given.out / f"{name}{ending}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
                print(f"{name}{ending}: {len(lines)} pairs of {len(asked)} questions")


if __name__ == "__main__":
    main()
