"""A recipe of a reader: what is trained on what, and how; read from TOML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ai_os_diffusion.models.cards.description import MAX_RANK
from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.training.recipe import check_keys, flattened, read_recipe
from ai_os_diffusion.training.settings import (
    BITS,
    BatchSettings,
    OptimizerSettings,
    ReportSettings,
    maybe_dtype,
    one_of,
    paths,
)
from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = ["ReaderRecipe", "WindowSettings"]

Blocks = Literal["none", "first", "ignore"]

_BLOCKS: tuple[Blocks, ...] = ("none", "first", "ignore")


@dataclass(frozen=True)
class WindowSettings:
    """How a question and a passage stand in what the encoder reads, in tokens.

    Attributes:
        question: at most, the rest is cut off.
        passage: at most; longer ones become windows.
        overlap: of two windows.
        span: most tokens of an answer.
    """

    question: int = 40
    passage: int = 300
    overlap: int = 100
    span: int = 30

    @classmethod
    def of(cls, values: UntrustedValues) -> WindowSettings:
        """Read the table."""
        found = cls(
            question=values.integer("question", cls.question, high=1024),
            passage=values.integer("passage", cls.passage, low=2, high=8192),
            overlap=values.integer("overlap", cls.overlap, low=0, high=8192),
            span=values.integer("span", cls.span, high=8192),
        )
        if found.overlap >= found.passage:
            raise values.fault("overlap", f"less than a window, {found.passage}")
        return found

    def starts(self, length: int) -> Iterator[int]:
        """Where the windows of a passage of so many tokens begin; there are none of one without any."""
        if length:
            yield from range(0, max(1, length - self.overlap), self.passage - self.overlap)


@dataclass(frozen=True)
class QuestionSettings:
    """What is drawn for a batch.

    Attributes:
        count: questions of a batch.
        negatives: windows that do not answer, of each.
        positives: windows that do, at most, of each.
    """

    count: int = 32
    negatives: int = 3
    positives: int = 2

    @classmethod
    def of(cls, values: UntrustedValues) -> QuestionSettings:
        """Read the table."""
        return cls(
            count=values.integer("count", cls.count, high=1 << 16),
            negatives=values.integer("negatives", cls.negatives, low=0, high=256),
            positives=values.integer("positives", cls.positives, high=256),
        )

    @property
    def windows(self) -> int:
        """Of a question at most."""
        return self.positives + self.negatives


@dataclass(frozen=True)
class LossSettings:
    """What is learned of a batch; each is a mean over its questions.

    Attributes:
        negative: weight of a window without an answer, where start and end are "none".
        shared: of start and end among all windows of a question, whose margins become comparable by it.
        listed: of the relevant passages among those of a question.
        relevance: of the relevance of each passage.
        blocks: what start and end of a block's window are: "none", the "first" of the block that the rows
            name, or not learned.
        taught: part of all of these that is learned from the teachers' scores in place of the labels.
        temperature: by which their scores, and those of the card beside them, are divided.
        smoothing: part of the probability that goes to all places alike.
    """

    negative: float = 0.5
    shared: float = 0.5
    listed: float = 1.0
    relevance: float = 0.3
    blocks: Blocks = "none"
    taught: float = 0.0
    temperature: float = 1.0
    smoothing: float = 0.0

    @classmethod
    def of(cls, values: UntrustedValues) -> LossSettings:
        """Read the table."""
        weights = {
            name: values.number(name, getattr(cls, name), high=1e3)
            for name in ("negative", "shared", "listed", "relevance")
        }
        return cls(
            **weights,
            blocks=one_of(values, "blocks", _BLOCKS),
            taught=values.number("taught", cls.taught, high=1.0),
            temperature=values.number("temperature", cls.temperature, low=0.1, high=100.0),
            smoothing=values.number("smoothing", cls.smoothing, high=0.5),
        )


@dataclass(frozen=True)
class ReaderData:
    """What is trained on.

    Attributes:
        files: `.jsonl` and `.jsonl.gz` of rows, packed `.npz`, and folders of the former.
        passes: how often each kind of question is drawn in an epoch, parts too; others once.
        scores: files of what teachers say of the questions of `files`, in their order.
        licence: of the data, which becomes the card's.
        described: what the data is, for the card.
    """

    files: tuple[Path, ...]
    passes: Mapping[str, float] = field(default_factory=dict)
    scores: tuple[Path, ...] = ()
    licence: str | None = None
    described: str | None = None

    @classmethod
    def of(cls, values: UntrustedValues, folder: Path) -> ReaderData:
        """Read the table; paths are relative to `folder`."""
        files, passes = paths(values, "files", folder), values.section("passes")
        if not files:
            raise values.fault("files", "at least one file of questions")
        return cls(
            files=files,
            passes={kind: passes.number(kind, high=1e6) for kind in passes},
            scores=paths(values, "scores", folder),
            licence=values.maybe_text("licence"),
            described=values.maybe_text("described"),
        )


@dataclass(frozen=True)
class ReaderCardSettings:
    """What becomes of it.

    Attributes:
        rank: of the factors.
        alpha: they are scaled by alpha / sqrt(rank), rank-stabilised (rsLoRA, arXiv:2312.03732).
        bits: factors are stored as codes of 8 or 4 bits, or 0, as float32.
        average: the card is the running mean of the weights of about 1 / (1 - average) steps; 0 takes the
            last.
        init: a reader card of the same base, rank and alpha whose weights the run begins with; None for
            factors that change nothing yet.
        config: what else the card says.
    """

    rank: int = 64
    alpha: float = 16.0
    bits: int = 4
    average: float = 0.0
    init: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: UntrustedValues, folder: Path) -> ReaderCardSettings:
        """Read the table; paths are relative to `folder`."""
        bits = values.integer("bits", cls.bits, low=0)
        if bits not in BITS:
            raise values.fault("bits", "8, 4, or 0 for float32")
        init = values.maybe_text("init")
        return cls(
            rank=values.integer("rank", cls.rank, high=MAX_RANK),
            alpha=values.number("alpha", cls.alpha, low=1e-3, high=1e6),
            bits=bits,
            average=values.number("average", cls.average, high=0.99999),
            init=None if init is None else folder / Path(init).expanduser(),
            config=values.section("config").values,
        )


@dataclass(frozen=True)
class ReaderRecipe:
    """Everything about a run but where it is written and what computes it.

    Attributes:
        base: the encoder: a pulled name or a folder.
        name: of the card.
        seed: of all that is drawn.
        dtype: of the products; by default bfloat16 on a GPU and float32 elsewhere.
    """

    base: str
    data: ReaderData
    optimizer: OptimizerSettings
    name: str = "reader"
    seed: int = 0
    dtype: str | None = None
    windows: WindowSettings = field(default_factory=WindowSettings)
    questions: QuestionSettings = field(default_factory=QuestionSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    card: ReaderCardSettings = field(default_factory=ReaderCardSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> ReaderRecipe:
        """Read a TOML file.

        Args:
            path: the file; paths in it are relative to its folder.
            overrides: lines of TOML that win over it, as `optimizer.steps = 100`.

        Raises:
            ConfigurationError: it is none, or a key is unknown, missing, of another type or out of range.
        """
        return cls.of(read_recipe(path, overrides), str(path), path.parent)

    @classmethod
    def of(
        cls, document: Mapping[str, Any], place: str = "recipe", folder: Path | None = None
    ) -> ReaderRecipe:
        """Read values.

        Args:
            document: by name.
            place: names it in errors.
            folder: what paths are relative to.

        Raises:
            ConfigurationError: as for `read`.
        """
        values = UntrustedValues(place, document, ConfigurationError)
        tables = {name: values.section(name) for name in _TABLES}
        check_keys(values, cls)
        for name, table in tables.items():
            check_keys(table, _TABLES[name])
        found = cls(
            base=values.text("base"),
            data=ReaderData.of(tables["data"], folder or Path()),
            optimizer=OptimizerSettings.of(tables["optimizer"]),
            name=values.text("name", cls.name, high=200),
            seed=values.integer("seed", 0, low=0, high=1 << 31),
            dtype=maybe_dtype(values),
            windows=WindowSettings.of(tables["windows"]),
            questions=QuestionSettings.of(tables["questions"]),
            batch=BatchSettings.of(tables["batch"]),
            loss=LossSettings.of(tables["loss"]),
            card=ReaderCardSettings.of(tables["card"], folder or Path()),
            report=ReportSettings.of(tables["report"]),
        )
        longest = found.windows.question + found.windows.passage + 3
        if found.batch.length < longest:
            raise ConfigurationError(
                f"{place}: batch.length is {found.batch.length}, expected at least {longest}, a question and "
                "a window with their special tokens"
            )
        if bool(found.data.scores) != (found.loss.taught > 0):
            raise ConfigurationError(
                f"{place}: loss.taught is {found.loss.taught} with {len(found.data.scores)} files of "
                "data.scores; expected both, or neither"
            )
        return found

    @property
    def fixed(self) -> dict[str, Any]:
        """What a run cannot change on its way, as JSON can hold it."""
        return flattened(self)


_TABLES: Mapping[str, Any] = {
    "data": ReaderData,
    "windows": WindowSettings,
    "questions": QuestionSettings,
    "batch": BatchSettings,
    "loss": LossSettings,
    "card": ReaderCardSettings,
    "optimizer": OptimizerSettings,
    "report": ReportSettings,
}
