"""Conversations over notes: `conversations.py [--verbose]`, 40 scripted ones over `everyday/notes`.

A turn asks for what a note says, often by what was said before ("and how much was that?"), or for what stands
in none of them. Everything that is said has to be cited and true, or it has to be declined. A reply counts as
invented when it holds a number or a name (in German, where nouns have capitals, any of them) that neither the
notes it cites nor the person said. The conversations were written before the first run.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.config import load_config
from ai_os_diffusion.runtime import open_runtime
from ai_os_diffusion.runtime.conversation import Conversation, Reply
from judging import Said, flat, is_right
from measure import report

EVERYDAY = Path(__file__).resolve().parent / "everyday"
NOTES = EVERYDAY / "notes"
Turn = Mapping[str, Any]

VERDICTS = (
    "right",
    "declined rightly",
    "declined wrongly",
    "wrong",
    "answered without ground",
    "uncited",
    "invented",
)
"""What a reply is worth: `wrong` is cited and true, but no answer; `answered without ground` is the same
where the notes say nothing; `uncited` is an answer without any citation."""

# A number with its marks, or a word.
_TOKEN = re.compile(r"\d[\d.,:/-]*\d|\d|[^\W\d_][\w'-]*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n]\s+|[\"“„(»]\s*)$")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn went: whether it was a conversation's first, and what its reply was worth."""

    conversation: str
    language: str
    is_first: bool
    verdict: str


def conversations() -> list[dict[str, Any]]:
    """All of them: `id`, `language`, and `turns` of what is said, the accepted answers and their note."""
    lines = (EVERYDAY / "conversations.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def claims(text: str) -> set[str]:
    """The numbers and names that a text states: words with a capital, unless they begin a sentence."""
    found = set()
    for match in _TOKEN.finditer(text):
        token = match.group()
        begins = _SENTENCE_START.search(text[: match.start()]) is not None
        if token[0].isdigit() or (token[0].isupper() and token != "I" and not begins):
            found.add(token.casefold())
    return found


def unsupported(text: str, given: Sequence[str]) -> set[str]:
    """What a text states that no given text holds."""
    known = {token.casefold() for source in given for token in _TOKEN.findall(source)}
    return claims(text) - known


def verdict(turn: Turn, said: Said, *, is_own: bool, heard: Sequence[str], notes: Mapping[str, str]) -> str:
    """What a reply is worth, one of `VERDICTS`.

    Args:
        turn: what was said, and what is accepted; nothing is where the reply has to decline.
        said: the reply.
        is_own: the model speaks of itself, and that is marked.
        heard: what the person said so far.
        notes: all of them, by their names.
    """
    wanted = turn["answers"]
    cited = {Path(source).name for source in said.sources}
    invented = unsupported(said.text, [*heard, *(notes[name] for name in cited if name in notes)])
    if said.declined or (is_own and not wanted and not invented):
        return "declined wrongly" if wanted else "declined rightly"
    if invented:
        return "invented"
    if not cited:
        return "uncited"
    if not wanted:
        return "answered without ground"
    return "right" if is_right(said.shown, wanted) and turn["source"] in cited else "wrong"


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts of the verdicts: of all turns, of first ones and follow-ups, and by language."""

    def counts(some: Sequence[Outcome]) -> dict[str, int]:
        found = Counter(outcome.verdict for outcome in some)
        return {"turns": len(some), **{name: found[name] for name in VERDICTS if found[name]}}

    good = ("right", "declined rightly")
    names = {outcome.conversation for outcome in outcomes}
    failed = {outcome.conversation for outcome in outcomes if outcome.verdict not in good}
    languages = sorted({outcome.language for outcome in outcomes})
    return {
        "all": counts(outcomes),
        "first": counts([outcome for outcome in outcomes if outcome.is_first]),
        "follow_ups": counts([outcome for outcome in outcomes if not outcome.is_first]),
        **{name: counts([one for one in outcomes if one.language == name]) for name in languages},
        "conversations": len(names),
        "whole": len(names - failed),
    }


def said_by(reply: Reply) -> Said:
    """What a reader sees of a reply; what the model says of itself has no sources."""
    if reply.answer is not None:
        return Said.of(reply.answer)
    return Said(reply.text, reply.text, (), not reply.text.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="show every reply")
    options = parser.parse_args()
    notes = {file.name: flat(file.read_text(encoding="utf-8")) for file in NOTES.iterdir()}
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        settings = {"storage.path": Path(folder) / "store"}
        with open_runtime(load_config(overrides=settings)) as runtime:
            runtime.add([NOTES])
            for script in conversations():
                conversation, heard = Conversation(runtime), []
                for number, turn in enumerate(script["turns"]):
                    heard.append(turn["say"])
                    events = conversation.reply(turn["say"])
                    reply = [event for event in events if isinstance(event, Reply)][-1]
                    said = said_by(reply)
                    worth = verdict(turn, said, is_own=reply.answer is None, heard=heard, notes=notes)
                    outcomes.append(Outcome(script["id"], script["language"], number == 0, worth))
                    if options.verbose:
                        print(f"{worth:24} {turn['say']}\n{'':24} {flat(said.text)[:160]}")
    report(**figures_of(outcomes))


if __name__ == "__main__":
    main()
