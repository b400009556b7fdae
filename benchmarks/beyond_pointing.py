"""What is beyond pointing at a span: `beyond_pointing.py [--diffusion CARD] [--causal CARD] [--reader CARD]`.

Cards are safetensors files, converted here as `aios convert` does, or cards. Each answers the sets of
`beyond_pointing/`, which were written before the first run: yes or no with the reason, answers put together
from two passages, forms filled from notes. "yes_no" asks in the words that cards are trained with ("True or
false?"), "yes_no_plain" as people do. `--sets squad`, with AIOS_DATA, is what pointing can answer: 500
questions of `squad_dev_a` on their own paragraph. `--causal` is a card for the next token, trained on what
the diffusion card was trained on; `--base` the decoder as it is. Values are compared by `values.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from answers import lines_of
from diffusion_card import ABOUT
from measure import data_dir, report
from models import card_file, converted
from squad import card_questions, judged
from values import holds, is_declined, same_value, words
from writers import ByDiffusion, LeftToRight, Pointing, Writer, Wrote

SETS = Path(__file__).resolve().parent / "beyond_pointing"
Row = Mapping[str, Any]
Marks = Mapping[str, bool | None]
"""What is right about an answer; None where it does not apply."""

_MEANS = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def judge_yes_no(row: Row, said: str) -> Marks:
    """Yes, no, or not stated; of the first two the reason too."""
    first = next(iter(words(said)), "")
    meant = _MEANS.get(first, "not stated" if is_declined(said) else "neither")
    is_right = meant == row["answer"]
    given = [holds(said, reason) for reason in row["reason"]]
    return {
        "right": is_right and (any(given) or not given),
        "answer": is_right,
        "reason": any(given) if given else None,
        "left_open": is_right if row["answer"] == "not stated" else None,
        "wrongly_left_open": meant == "not stated" if row["answer"] != "not stated" else None,
    }


def judge_two_passages(row: Row, said: str) -> Marks:
    """All of the values, and that a part has no answer."""
    parts = [
        is_declined(said) if variants is None else any(holds(said, one) for one in variants)
        for variants in row["answers"]
    ]
    has_open = None in row["answers"]
    return {
        "right": all(parts),
        "both_told": None if has_open else all(parts),
        "one_told": any(parts),
        "left_open": is_declined(said) if has_open else None,
    }


def judge_form(row: Row, said: Mapping[str, Any]) -> list[Marks]:
    """Each field."""
    marks: list[Marks] = []
    for name, kind in row["template"].items():
        expected = row["values"][name]
        is_right = same_value(kind, said[name], expected)
        is_open = expected is None
        marks.append(
            {
                "right": is_right,
                "filled": None if is_open else is_right,
                "left_open": is_right if is_open else None,
                kind: None if is_open else is_right,
            }
        )
    return [*marks, {"whole": all(mark["right"] for mark in marks)}]


def shares(marks: Sequence[Marks]) -> dict[str, float]:
    """Per cent of each mark, of those that it applies to."""
    names = dict.fromkeys(name for mark in marks for name in mark)
    told = {name: [mark[name] for mark in marks if mark.get(name) is not None] for name in names}
    return {name: round(100 * sum(map(bool, own)) / len(own), 1) for name, own in told.items() if own}


def measured(writer: Writer, names: Sequence[str], limit: int | None, keep: Callable[..., None]) -> dict:
    """Figures of a writer on each set."""
    figures: dict[str, dict[str, float]] = {}
    for name in names:
        if name == "squad":
            figures[name] = on_squad(writer, limit)
            continue
        rows = lines_of(SETS / f"{name.removesuffix('_plain')}.jsonl")[:limit]
        marks: list[Marks] = []
        wrote: list[Wrote] = []
        for row in rows:
            if name == "templates":
                wrote.append(writer.fill(row["notes"], row["template"]))
                own = judge_form(row, wrote[-1].value)
            else:
                asked = writer.yes_no if name == "yes_no" else "{}"
                wrote.append(writer.answer(row["passages"], asked.format(row["question"])))
                judge = judge_two_passages if name == "two_passages" else judge_yes_no
                own = [judge(row, wrote[-1].value)]
            marks += own
            keep(set=name, id=row["id"], said=wrote[-1].value, marks=own)
        figures[name] = {**shares(marks), **costs(wrote)}
    return figures


def on_squad(writer: Writer, limit: int | None) -> dict[str, float]:
    """Exact match and F1 of the 500 questions that cards are judged by, on their own paragraph."""
    asked = card_questions(data_dir(as_argument=False))[:limit]
    wrote = [writer.answer([one.paragraph], one.text) for one in asked]
    return {**judged(asked, [one.value for one in wrote]), **costs(wrote)}


def costs(wrote: Sequence[Wrote]) -> dict[str, float]:
    """Means of a text."""
    return {
        "passes": round(sum(one.passes for one in wrote) / len(wrote), 2),
        "read_ms": round(1e3 * sum(one.read_s for one in wrote) / len(wrote), 1),
        "write_ms": round(1e3 * sum(one.write_s for one in wrote) / len(wrote), 1),
    }


def writers(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Writer]]:
    """Each way that was asked for, its engine open as long as it is used."""
    from ai_os_diffusion.inference import ArrowEngine

    smollm2 = converted("smollm2", None)
    if options.diffusion:
        with ArrowEngine(smollm2, device="cpu", num_threads=options.threads) as engine:
            engine.attach(card_file(options.diffusion, smollm2, folder, ABOUT))
            yield "diffusion card", ByDiffusion(engine)
    for given, name in ((options.causal, "causal card"), (options.base, "base")):
        if given:
            with ArrowEngine(smollm2, device="cpu", num_threads=options.threads) as engine:
                if given is options.causal:
                    about = {"kind": "causal", "row_ids": ABOUT["row_ids"]}
                    engine.attach(card_file(given, smollm2, folder, about))
                for in_slots in (True, False):
                    kind = "in slots" if in_slots else "freely"
                    yield (
                        f"{name}, {kind}",
                        LeftToRight(engine, has_card=given is options.causal, in_slots=in_slots),
                    )
    if options.reader:
        minilm = converted("minilm", "int8")
        with ArrowEngine(minilm, num_threads=options.threads) as engine:
            engine.attach(card_file(options.reader, minilm, folder, {"kind": "reader"}))
            yield "reader, best span", Pointing(engine, each=False)
            yield "reader, a span of each passage", Pointing(engine, each=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for kind in ("diffusion", "causal", "reader"):
        parser.add_argument(f"--{kind}", type=Path, help="a card, its source, or the folder of that")
    parser.add_argument("--base", action="store_true", help="the decoder without a card as well")
    parser.add_argument("--sets", default="yes_no,yes_no_plain,two_passages,templates")
    parser.add_argument("--threads", type=int, help="of a forward pass; by default one for each core")
    parser.add_argument("--limit", type=int, help="only the first of each set")
    parser.add_argument("--keep", type=Path, help="where everything that was written is kept, as JSON lines")
    options = parser.parse_args()
    given = [card for card in (options.diffusion, options.causal, options.reader) if card]
    if not (given or options.base) or not all(card.exists() for card in given):
        print(f"skipped: {Path(sys.argv[0]).name} needs --diffusion, --causal or --reader with a card")
        print(json.dumps({"benchmark": "beyond_pointing", "skipped": "no card"}))
        return
    figures: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = stack.enter_context(options.keep.open("w", encoding="utf-8")) if options.keep else None

        for name, writer in writers(options, folder):

            def keep(name: str = name, **said: Any) -> None:
                if file:
                    print(json.dumps({"writer": name, **said}, ensure_ascii=False), file=file, flush=True)

            # Only forms are written in two ways, and only passages pointed at in two.
            names = options.sets.split(",")
            if name.endswith("freely"):
                names = [one for one in names if one == "templates"]
            elif name.endswith("each passage"):
                names = [one for one in names if one != "templates"]
            figures[name] = measured(writer, names, options.limit, keep)
            for one, own in figures[name].items():
                print(f"{name:>32} {one:>13} {own}", flush=True)
    report(writers=figures)


if __name__ == "__main__":
    main()
