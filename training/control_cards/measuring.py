"""What controls do to prompts that they never saw: `measuring.py SKILLS [--model smollm2]`.

With AIOS_DATA, the perplexity of `wikitext2/valid.txt.gz` too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from examples import CONTROLS, answers, is_list, is_reply
from prompts import prompts

from ai_os_diffusion.evolution import LoRACard, find_skill
from ai_os_diffusion.evolution.skill_router import everyday_questions
from ai_os_diffusion.inference import ArrowEngine

CHECKS = dict(zip(CONTROLS, (is_list, is_reply), strict=True))

ASKED_FOR = {
    "list": "{} Answer as a bulleted list, each point beginning with '- '.",
    "reply": '{} Answer as JSON: {{"tool": "reply", "arguments": {{"text": "...", "keywords": ["..."]}}}}',
}
"""The same without a control, by words."""

_SEEN_BY_THE_GATE = 24
_WINDOW, _WINDOWS = 512, 8
_ROOM = 160


def in_structure(engine: ArrowEngine, name: str, asked: list[str], card: LoRACard | None) -> float:
    """Share of the answers that are built as a control is to build them."""
    with nullcontext() if card is None else engine.using(card):
        found = answers(engine, asked, _ROOM)
    return sum(map(CHECKS[name], found)) / len(found)


def perplexity(engine: ArrowEngine, text: str, card: LoRACard | None) -> float:
    """Of the first tokens of a text, in windows."""
    ids = engine.tokenizer.encode([text[: 8 * _WINDOW * _WINDOWS]], padding=False).flat_ids
    parts = [ids[at * _WINDOW : (at + 1) * _WINDOW] for at in range(_WINDOWS)]
    with nullcontext() if card is None else engine.using(card):
        nats = np.concatenate([engine.core.token_nll(part, 1) for part in parts])
    return math.exp(float(nats.mean()))


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("skills", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--most", type=int, default=48, help="held-out prompts of the same kind")
    given = parser.parse_args()
    same_kind = prompts(held_out=True)[_SEEN_BY_THE_GATE:][: given.most]
    kinds = {"held_out": same_kind, "everyday": list(everyday_questions())}
    data, text = os.environ.get("AIOS_DATA"), ""
    if data:
        with gzip.open(Path(data) / "wikitext2" / "valid.txt.gz", "rt", encoding="utf-8") as file:
            text = file.read(16 * _WINDOW * _WINDOWS)
    found: dict[str, dict[str, float]] = {}
    with ArrowEngine(given.model) as engine:
        for name in CONTROLS:
            card = find_skill(name, given.skills)
            engine.generate("a", max_tokens=1)
            figures: dict[str, float] = {"size_bytes": card.path.stat().st_size}
            for kind, asked in kinds.items():
                figures[f"{kind}_prompts"] = len(asked)
                figures[f"{kind}_without"] = in_structure(engine, name, asked, None)
                wished = [ASKED_FOR[name].format(question) for question in asked]
                figures[f"{kind}_asked_for"] = in_structure(engine, name, wished, None)
                begun = time.perf_counter()
                figures[f"{kind}_with"] = in_structure(engine, name, asked, card)
                figures[f"{kind}_seconds"] = time.perf_counter() - begun
            if text:
                figures["perplexity"] = perplexity(engine, text, None)
                figures["perplexity_with"] = perplexity(engine, text, card)
            found[name] = {key: round(value, 4) for key, value in figures.items()}
            print(name, found[name])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
