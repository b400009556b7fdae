"""Fits how likely an answer is right: `answer_calibration.py CARD --pairs FILE --real STORE --out FILE`.

CARD is a reader card, or its safetensors file. It is fitted on what it was not trained on, as far as there is
any, questions of four kinds. However many they are, the last counts as much as the others together:

- open: of `reader/extractive.jsonl.gz` (AIOS_DATA), or of --rows FILE in the same form, to passages of their
  own source; a quarter a second time with their document and whatever holds an accepted answer taken away;
- packages: of --pairs FILE, rows of `training/reader_card` to held-out packages, all searched together, some
  of a name that stands nowhere;
- written: of --written FOLDER, which a larger model wrote to passages of held-out packages, as `packages`;
- documents: of `real_documents/tune.jsonl`, to --real STORE, which `real_documents.py --store` fills.

The first are right by F1, the next two also by holding the accepted answer in what is shown, the last as
`real_documents` judges. The threshold is where an answer is worth more than none, a wrong one costing half
of what a right one is worth. Measured on each kind by fits to nine tenths of it too, and on `squad_dev_a`
over all its paragraphs, with the article taken away where it is asked again. --read FOLDER keeps what was
read, or takes it from there, so that a fit costs seconds. --out writes the card with its calibration;
--measure takes what CARD says.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.answers.judge import Judge
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.cards.redescribed import redescribed
from ai_os_diffusion.utils.statistics.calibration import Calibration
from document_questions import document_reads, package_reads, written_reads
from measure import data_dir, report
from models import card_file, converted, is_given
from open_questions import Read, read_all, row_pools, squad_pool
from uncertainty import auroc, calibration_error

_COST = 0.5
"""Of a wrong answer, where a right one is worth 1, and none at all nothing."""
_KEPT = 0.95
_FOLDS = 10
_COUNTS = {"open": 0.5, "packages": 0.5, "written": 1.0, "documents": 2.0}
"""How much each kind of questions counts, however many there are: the more, the nearer to what is asked."""

SOURCES = re.compile("SQuAD1|SQuAD-train|TyDi|QED|COVID|SleepQA|Hotpot|MuSiQue|AfriQA")
"""Whose questions stand by themselves: nobody can ask many passages what "the king" did."""


@dataclass(frozen=True)
class Found:
    """An answer that was found.

    Attributes:
        features: of a `Candidate`.
        right: a person would take it. exact, f1: as SQuAD compares it; 0 where nothing is compared.
    """

    features: Mapping[str, float]
    right: bool
    exact: bool
    f1: float


@dataclass(frozen=True)
class Asked:
    """A question and what competes to answer it.

    Attributes:
        text: the question. answerable: something answers it.
        found: what competes.
    """

    text: str
    answerable: bool
    found: Sequence[Found]

    @classmethod
    def of(cls, read: Read) -> Asked:
        """What was read, as it is judged."""
        compared = bool(read.asked.answers)
        found = [
            Found(
                one.features,
                read.is_right(one),
                compared and read.is_exact(one),
                read.f1(one) if compared else 0.0,
            )
            for one in read.found
        ]
        return cls(read.asked.text, not read.removed, found)

    def best(self, calibration: Calibration) -> tuple[float, Found]:
        """The likeliest answer, and how likely it is."""
        rated = [(calibration.probability(one.features), one) for one in self.found]
        return max(rated, key=lambda pair: pair[0])


def fitted(kinds: Mapping[str, Sequence[Asked]]) -> Judge:
    """A calibration to kinds of questions, each counting as told, and its threshold."""
    total = sum(_COUNTS[kind] for kind in kinds)
    questions = sum(map(len, kinds.values()))
    weights = {kind: questions * _COUNTS[kind] / total / len(asked) for kind, asked in kinds.items()}
    rows = [
        (found.features, found.right, weights[kind])
        for kind, asked in kinds.items()
        for one in asked
        for found in one.found
    ]
    calibration = Calibration.fit(*zip(*rows, strict=True))
    return Judge(calibration, round(_COST / (1.0 + _COST), 4))


def measured(asked: Sequence[Asked], judges: Sequence[Judge]) -> dict[str, float]:
    """What the first answers are worth, and what is known of it before, each by its own judge."""
    rated = [
        one.best(judge.calibration or Calibration(0.0)) for one, judge in zip(asked, judges, strict=True)
    ]
    chance = np.array([own for own, _ in rated])
    right = np.array([found.right for _, found in rated])
    answerable = np.array([one.answerable for one in asked])
    believed = chance >= np.array([judge.threshold for judge in judges])
    removed = ~answerable
    figures = {
        "questions": int(answerable.sum()),
        "unanswerable": int(removed.sum()),
        "found_right": np.mean([any(own.right for own in one.found) for one in asked if one.answerable]),
        "exact": 100
        * np.mean([found.exact for one, (_, found) in zip(asked, rated, strict=True) if one.answerable]),
        "f1": 100
        * np.mean([found.f1 for one, (_, found) in zip(asked, rated, strict=True) if one.answerable]),
        "right": right[answerable].mean(),
        "auroc_right": auroc(chance, right),
        "calibration_error": calibration_error(chance, right),
        "calibration_error_of_answerable": calibration_error(chance[answerable], right[answerable]),
        "answered": believed[answerable].mean(),
        "answered_rightly": (right & believed)[answerable].mean(),
        "right_of_answered": right[answerable & believed].mean(),
    }
    if removed.any():
        kept = np.quantile(chance[answerable], 1 - _KEPT)
        figures["auroc_answerable"] = auroc(chance, answerable)
        figures["unanswerable_answered_at_95"] = (chance[removed] >= kept).mean()
        figures["unanswerable_answered"] = believed[removed].mean()
    return {name: round(float(value), 4) for name, value in figures.items()}


def across_folds(kinds: Mapping[str, Sequence[Asked]], which: str) -> dict[str, float]:
    """Figures of one kind, every question judged by a fit that saw none of its tenth."""
    folds = [zlib.crc32(one.text.encode()) % _FOLDS for one in kinds[which]]
    judges = {}
    for fold in set(folds):
        others = [one for one, own in zip(kinds[which], folds, strict=True) if own != fold]
        judges[fold] = fitted({**kinds, which: others})
    return measured(kinds[which], [judges[fold] for fold in folds])


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file, compressed or not."""
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        yield from map(json.loads, lines)


def kept(folder: Path | None, kind: str, read: Callable[[], Iterable[Read]]) -> list[Asked]:
    """What a folder holds of an earlier reading; else what is read now, which goes there."""
    file = None if folder is None else folder / f"{kind}.jsonl.gz"
    if file is not None and file.exists():
        rows = rows_of(file)
        return [
            Asked(row["text"], row["answerable"], [Found(**found) for found in row["found"]]) for row in rows
        ]
    asked = [one for one in map(Asked.of, read()) if one.found]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(file, "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(asdict(one)) + "\n" for one in asked)
    return asked


def main() -> None:
    """Read, fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path, nargs="?", help="a reader card, or its source")
    parser.add_argument("--rows", type=Path, help="of open questions; by default those of AIOS_DATA")
    parser.add_argument("--pairs", type=Path, help="held-out rows of `training/reader_card`, .jsonl.gz")
    parser.add_argument("--written", type=Path, help="folder of written questions to held-out packages")
    parser.add_argument("--asked", type=int, default=600, help="of the written questions")
    parser.add_argument("--real", type=Path, help="a store of real documents")
    parser.add_argument("--questions", type=int, default=500, help="of open questions")
    parser.add_argument("--measured", type=int, default=1000, help="questions of squad_dev_a")
    parser.add_argument("--seed", type=int, default=503)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--read", type=Path, help="keeps what was read of each kind, or holds it")
    parser.add_argument("--measure", action="store_true", help="take the card as it is")
    parser.add_argument("--out", type=Path, help="the card with its calibration")
    options = parser.parse_args()
    if not is_given(options.card, "reader card for minilm"):
        return
    from ai_os_diffusion.inference import ArrowEngine

    data, seed = data_dir(as_argument=False), options.seed
    base = converted("minilm", None)
    with tempfile.TemporaryDirectory() as folder, ArrowEngine(base, device=options.device) as engine:
        file = card_file(options.card, base, Path(folder), {"kind": "reader"})
        engine.attach(file)
        card = Card(file)
        judge = Judge.of(card.description.config, str(file))
        rows = rows_of(options.rows or data / "reader" / "extractive.jsonl.gz")
        asked = (row for row in rows if options.rows or SOURCES.search(row["source"]))
        readers: dict[str, Callable[[], Iterable[Read]]] = {
            "open": lambda: chain.from_iterable(
                read_all(engine, pool) for pool in row_pools(asked, options.questions, seed)
            )
        }
        if options.pairs:
            readers["packages"] = lambda: package_reads(engine, options.pairs, seed)
        if options.written:
            readers["written"] = lambda: written_reads(engine, options.written, options.asked, seed)
        if options.real:
            readers["documents"] = lambda: document_reads(file, options.real)
        kinds = {kind: kept(options.read, kind, read) for kind, read in readers.items()}
        squad = kept(
            options.read, "squad_dev_a", lambda: read_all(engine, squad_pool(data, options.measured, seed))
        )
        if not options.measure:
            judge = fitted(kinds)
        if judge.calibration is None:
            raise SystemExit(f"{file}: holds no calibration; leave out --measure to fit one")
        figures = {kind: measured(own, [judge] * len(own)) for kind, own in kinds.items()}
        if not options.measure:
            figures |= {f"{kind}, others fitted": across_folds(kinds, kind) for kind in kinds}
        figures["squad_dev_a"] = measured(squad, [judge] * len(squad))
        if options.out is not None:
            config = {**card.description.config, **judge.to_config()}
            before = {name: own for name, own in card.description.metrics.items() if "answers" not in name}
            metrics = {**before, "answers": figures}
            redescribed(card, options.out, replace(card.description, config=config, metrics=metrics))
    weights = {name: round(own.weight, 3) for name, own in judge.calibration.features.items()}
    report(figures=figures, threshold=judge.threshold, weights=weights)


if __name__ == "__main__":
    main()
