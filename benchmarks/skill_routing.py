"""Which questions go to a skill: `skill_routing.py`, AIOS_DATA set; needs the pulled model `minilm`.

Two skills by the questions they would be learned from (`skills/*/train.jsonl`). Other wordings of the same
facts are to go to their skill, trivia to none, by `SkillRouter`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution import SkillRouter
from ai_os_diffusion.inference import ArrowEngine
from learning import lines, unrelated
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
    return [row["question"] for row in lines(path)]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    data = data_dir(as_argument=False)
    trivia = [pair.question for pair in unrelated(data, ASKED)]
    cards = [
        Examples(name, {"examples": questions(data / "skills" / name / "train.jsonl")}) for name in SKILLS
    ]
    with ArrowEngine(converted("minilm", None), device="cpu") as encoder:
        router = SkillRouter(encoder.encode, cards)  # type: ignore[arg-type]
        told: dict[str, Any] = {}
        for card in cards:
            routes = router.routes(questions(data / "skills" / card.name / "test.jsonl"))
            told[card.name] = {
                "threshold": round(next(r.threshold for r in routes if r.skill is card), 3),
                "other wordings, to their skill": round(
                    sum(r.skill is card for r in routes) / len(routes), 4
                ),
            }
        to_none = [route.skill is None for route in router.routes(trivia)]
    report(**told, **{"trivia": len(trivia), "to no skill": round(sum(to_none) / len(to_none), 4)})


if __name__ == "__main__":
    main()
