"""Which questions go to a skill: `skill_routing.py`, AIOS_DATA set; needs the pulled model `minilm`.

Two skills by the questions they would be learned from (`skills/*/train.jsonl`). Other wordings of the same
facts are to go to their skill, trivia to none, by `SkillRouter`.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution import SkillRouter
from ai_os_diffusion.inference import ArrowEngine
from measure import data_dir, report
from models import converted

SKILLS = ("chopin", "torch_relay_2008")
ASKED = 1000


@dataclass(frozen=True, eq=False)
class Examples:
    """As much of a card as a router looks at."""

    name: str
    config: dict[str, Any] = field(repr=False)
    created_at: str = ""

    @property
    def description(self) -> Examples:
        """Itself: a router asks for the settings alone."""
        return self


def questions(path: Path) -> list[str]:
    """Those of a file."""
    return [json.loads(line)["question"] for line in path.read_text(encoding="utf-8").split("\n") if line]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    data = data_dir(as_argument=False)
    with gzip.open(data / "train" / "open_trivia_qa.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(40 * ASKED), strict=False)]
    trivia = [row["prompt"].split("\n")[0] for row in rows[::40]]
    cards = [
        Examples(name, {"examples": questions(data / "skills" / name / "train.jsonl")}) for name in SKILLS
    ]
    with ArrowEngine(converted("minilm", None), device="cpu") as encoder:
        router = SkillRouter(encoder.encode, cards)  # type: ignore[arg-type]
        told: dict[str, Any] = {}
        for card in cards:
            routes = [router.route(one) for one in questions(data / "skills" / card.name / "test.jsonl")]
            told[card.name] = {
                "threshold": round(next(r.threshold for r in routes if r.skill is card), 3),
                "other wordings, to their skill": round(
                    sum(r.skill is card for r in routes) / len(routes), 4
                ),
            }
        to_none = [router.route(one).skill is None for one in trivia]
    report(**told, **{"trivia": len(trivia), "to no skill": round(sum(to_none) / len(to_none), 4)})


if __name__ == "__main__":
    main()
