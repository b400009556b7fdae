"""The tables of a recipe, each checked where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ai_os_diffusion.diffusion.noise_scheduler import NoiseScheduler, ScheduleName
from ai_os_diffusion.models.cards.description import MAX_RANK
from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = [
    "BITS",
    "BatchSettings",
    "CardSettings",
    "DataSettings",
    "DistillSettings",
    "NoiseSettings",
    "OptimizerSettings",
    "ReportSettings",
    "Token",
    "maybe_dtype",
    "one_of",
    "paths",
]

Choice = TypeVar("Choice", bound=str)
Token = int | str

_SCHEDULES: tuple[ScheduleName, ...] = ("linear", "cosine", "loglinear")
BITS = (0, 4, 8)
"""In which factors are stored; 0 is float32."""

_MOST_STEPS = 1 << 40


@dataclass(frozen=True)
class DataSettings:
    """What is trained on.

    Attributes:
        files: `.jsonl` and `.jsonl.gz`, and folders of them.
        program: in their place FILE.py:NAME, a class or function that gives an `ExampleSource`.
        arguments: what it is called with.
        kinds: share of each kind of example in a batch.
        text_chars: characters of a stretch of text.
        validation: files that are only measured on.
        licence: of the data, which becomes the card's.
        described: what the data is, for the card.
    """

    files: tuple[Path, ...] = ()
    program: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, float] = field(default_factory=dict)
    text_chars: int = 1600
    validation: tuple[Path, ...] = ()
    licence: str | None = None
    described: str | None = None

    @classmethod
    def of(cls, values: UntrustedValues, folder: Path) -> DataSettings:
        """Read the table; paths are relative to `folder`."""
        program = values.maybe_text("program")
        if program is not None:
            file, colon, name = program.rpartition(":")
            if not colon or not name.isidentifier():
                raise values.fault("program", "FILE.py:NAME")
            program = f"{(folder / file).resolve()}:{name}"
        files = paths(values, "files", folder)
        if (program is None) == (not files):
            raise ConfigurationError(f"{values.place}: expected either files or a program")
        kinds = values.section("kinds")
        return cls(
            files=files,
            program=program,
            arguments=values.section("arguments").values,
            kinds={kind: kinds.number(kind, low=1e-9) for kind in kinds},
            text_chars=values.integer("text_chars", cls.text_chars, low=16),
            validation=paths(values, "validation", folder),
            licence=values.maybe_text("licence"),
            described=values.maybe_text("described"),
        )


@dataclass(frozen=True)
class BatchSettings:
    """What is computed at once.

    Attributes:
        rows: of a batch.
        length: positions of a row, in which examples lie one behind the other.
        longest: positions that an example may take; longer ones are passed over.
        accumulate: batches a step, in each process.
        workers: processes that draw examples; 0 draws them between the steps.
        recompute: compute blocks again for the backward pass, which saves memory and takes a third more time.
    """

    rows: int = 8
    length: int = 4096
    longest: int = 1400
    accumulate: int = 1
    workers: int = 0
    recompute: bool = False

    @classmethod
    def of(cls, values: UntrustedValues) -> BatchSettings:
        """Read the table."""
        found = cls(
            rows=values.integer("rows", cls.rows),
            length=values.integer("length", cls.length, low=8),
            longest=values.integer("longest", min(cls.longest, values.get("length", cls.length)), low=4),
            accumulate=values.integer("accumulate", cls.accumulate),
            workers=values.integer("workers", cls.workers, low=0, high=1024),
            recompute=values.flag("recompute", cls.recompute),
        )
        if found.longest > found.length:
            raise values.fault("longest", f"at most the length of a row, {found.length}")
        return found


@dataclass(frozen=True)
class NoiseSettings:
    """How the text to be written is masked.

    Attributes:
        schedule: of `NoiseScheduler`.
        least_time: times are drawn from here to 1: the weight of a loss stays bounded.
        copies: masked copies of a short answer, at times spread evenly, behind one prompt.
        null_weight: of NULL behind one that is seen, where nothing else follows.
        causal_weight: of the next token beside the masked ones, for the objective "both".
    """

    schedule: ScheduleName = "linear"
    least_time: float = 0.05
    copies: int = 3
    null_weight: float = 0.3
    causal_weight: float = 1.0

    @classmethod
    def of(cls, values: UntrustedValues) -> NoiseSettings:
        """Read the table."""
        return cls(
            schedule=one_of(values, "schedule", _SCHEDULES),
            least_time=values.number("least_time", cls.least_time, low=1e-4, high=0.999),
            copies=values.integer("copies", cls.copies, high=64),
            null_weight=values.number("null_weight", cls.null_weight, high=1.0),
            causal_weight=values.number("causal_weight", cls.causal_weight, high=1e3),
        )

    @property
    def scheduler(self) -> NoiseScheduler:
        """The schedule as a value."""
        return NoiseScheduler(self.schedule)


@dataclass(frozen=True)
class CardSettings:
    """What becomes of it.

    Attributes:
        rank: of the factors.
        alpha: they are scaled by alpha / sqrt(rank), rank-stabilised (rsLoRA, arXiv:2312.03732).
        bits: factors are stored as codes of 8 or 4 bits, or 0, as float32.
        mask: the token of an open position, an id or as the tokenizer spells it; one that texts never hold.
        null: the token for nothing, another such.
        end: tokens that end a text; by default those of the model.
        block_length: positions that are written together.
        threshold: confidence at which several are committed in a pass.
        chat_template: of the prompts; by default the model's.
        question: how passages and a question stand in a prompt.
        config: what else the card says of how it writes, by the names of `DiffusionSettings`.
    """

    rank: int = 32
    alpha: float = 16.0
    bits: int = 8
    mask: Token | None = None
    null: Token | None = None
    end: tuple[Token, ...] = ()
    block_length: int = 16
    threshold: float = 0.9
    chat_template: str | None = None
    question: str = "{context}\n\n{question}"
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: UntrustedValues) -> CardSettings:
        """Read the table."""
        bits = values.integer("bits", cls.bits, low=0)
        if bits not in BITS:
            raise values.fault("bits", "8, 4, or 0 for float32")
        question = values.text("question", cls.question)
        if question.count("{context}") != 1 or question.count("{question}") != 1:
            raise values.fault("question", "a text with {context} and {question}, each once")
        return cls(
            rank=values.integer("rank", cls.rank, high=MAX_RANK),
            alpha=values.number("alpha", cls.alpha, low=1e-3, high=1e6),
            bits=bits,
            mask=_token(values, "mask"),
            null=_token(values, "null"),
            end=_tokens(values, "end"),
            block_length=values.integer("block_length", cls.block_length, high=4096),
            threshold=values.number("threshold", cls.threshold, high=1.0),
            chat_template=values.maybe_text("chat_template"),
            question=question,
            config=values.section("config").values,
        )


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW, and its rate over the run: up along a line, then down along a cosine.

    Attributes:
        rate: the highest.
        warm_up: part of the run until then.
        least_rate: at the end, as part of the highest.
        weight_decay: of matrices.
        betas: of the moments.
        clip: longest gradient.
        steps: of the run; 0 where the clock ends it.
        seconds: of the run; 0 where the number of steps does. Only steps can be repeated exactly.
    """

    rate: float = 2e-3
    warm_up: float = 0.02
    least_rate: float = 0.01
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    steps: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, values: UntrustedValues) -> OptimizerSettings:
        """Read the table."""
        betas = values.items("betas") or list(cls.betas)
        if len(betas) != 2 or not all(isinstance(beta, float) and 0 <= beta < 1 for beta in betas):
            raise values.fault("betas", "two numbers from 0 to less than 1")
        found = cls(
            rate=values.number("rate", cls.rate, low=1e-9, high=10.0),
            warm_up=values.number("warm_up", cls.warm_up, high=1.0),
            least_rate=values.number("least_rate", cls.least_rate, high=1.0),
            weight_decay=values.number("weight_decay", cls.weight_decay, high=10.0),
            betas=(betas[0], betas[1]),
            clip=values.number("clip", cls.clip, low=1e-6),
            steps=values.integer("steps", 0, low=0, high=_MOST_STEPS),
            seconds=values.number("seconds", 0.0),
        )
        if (found.steps == 0) == (found.seconds == 0):
            raise ConfigurationError(
                f"{values.place}: expected either steps or seconds, the length of the run"
            )
        return found


@dataclass(frozen=True)
class DistillSettings:
    """Few-step self-distillation: the student learns to do in one pass what its teacher does in several.

    Attributes:
        steps: passes of the teacher that one of the student stands for.
        rounds: how often the student becomes the teacher.

    Source: self-distillation through time, arXiv:2410.21035.
    """

    steps: int = 2
    rounds: int = 1

    @classmethod
    def of(cls, values: UntrustedValues) -> DistillSettings:
        """Read the table."""
        return cls(
            steps=values.integer("steps", cls.steps, low=1, high=64),
            rounds=values.integer("rounds", cls.rounds, high=64),
        )


@dataclass(frozen=True)
class ReportSettings:
    """What is told and kept while it runs; nothing of it changes what is learned.

    Attributes:
        log_every: steps between two lines of the log.
        save_every: steps between two states that a run can go on from.
        prompts: questions that the card answers whenever it is saved.
        infill: texts whose gaps, `{}`, it fills.
    """

    log_every: int = 10
    save_every: int = 500
    prompts: tuple[str, ...] = ()
    infill: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: UntrustedValues) -> ReportSettings:
        """Read the table."""
        return cls(
            log_every=values.integer("log_every", cls.log_every),
            save_every=values.integer("save_every", cls.save_every),
            prompts=tuple(values.texts("prompts")),
            infill=tuple(values.texts("infill")),
        )


def one_of(values: UntrustedValues, key: str, choices: tuple[Choice, ...]) -> Choice:
    """One of some texts; the first of them where none is given."""
    said = values.text(key, choices[0])
    found = next((choice for choice in choices if choice == said), None)
    if found is None:
        raise values.fault(key, " or ".join(map(repr, choices)))
    return found


def maybe_dtype(values: UntrustedValues) -> str | None:
    """The type of the products, `dtype`; None for the device's own."""
    found = values.maybe_text("dtype")
    if found not in (None, "float32", "bfloat16"):
        raise values.fault("dtype", "float32 or bfloat16")
    return found


def paths(values: UntrustedValues, key: str, folder: Path) -> tuple[Path, ...]:
    """A list of paths, relative to `folder`."""
    return tuple(folder / Path(text).expanduser() for text in values.texts(key))


def _token(values: UntrustedValues, key: str) -> Token | None:
    value = values.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise values.fault(key, "the id of a token, or the token as the tokenizer spells it")
    return value


def _tokens(values: UntrustedValues, key: str) -> tuple[Token, ...]:
    found = values.items(key)
    if any(isinstance(value, bool) or not isinstance(value, int | str) for value in found):
        raise values.fault(key, "a list of ids or tokens")
    return tuple(found)
