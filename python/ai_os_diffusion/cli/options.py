"""Options that several verbs share, and the settings of the program."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.failures import UsageError
from ai_os_diffusion.cli.terminal.output import note
from ai_os_diffusion.cli.terminal.standard_input import read_text, to_text

if TYPE_CHECKING:
    from ai_os_diffusion.config import Config
    from ai_os_diffusion.runtime import Runtime

__all__ = [
    "Device",
    "DryRun",
    "Filter",
    "Json",
    "MinSimilarity",
    "Question",
    "Quiet",
    "Reader",
    "Settings",
    "Source",
    "TopK",
    "Yes",
    "question_text",
]


Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON (docs/reference/cli-json.md).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Filter = Annotated[
    list[str] | None,
    typer.Option("--filter", "-f", metavar="KEY=VALUE", help="Only memories with this metadata; repeatable."),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", parser=values.name, help="Only memories of this document, or below this folder."
    ),
]
Question = Annotated[
    list[str],
    typer.Argument(
        metavar="QUESTION", help="In everyday words, quoted or not; - reads it from standard input."
    ),
]
TopK = Annotated[int | None, typer.Option("--top", "-k", min=1, max=1000, help="Memories at most.")]
MinSimilarity = Annotated[
    float | None,
    typer.Option(
        "--min-similarity", min=-1, max=1, callback=values.finite, help="Cosine the best must reach."
    ),
]
Reader = Annotated[
    str | None,
    typer.Option(
        "--reader",
        metavar="CARD",
        parser=values.name,
        help="Card that reads passages, or none to do without; by default the encoder's own.",
    ),
]


class Device(str, Enum):
    """Where training computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Settings:
    """What was given to the program itself; the configuration is gathered when a verb asks for it.

    Attributes:
        config_file: in place of the project file.
        overrides: values by dotted name; None is "not given".
        quiet: make no remarks; set once they are made.
    """

    # No dataclass: making it would take a fiftieth of what `aios --help` does.
    def __init__(self, config_file: Path | None, overrides: Mapping[str, Any], *, quiet: bool) -> None:
        """Take what was given."""
        self.config_file = config_file
        self.overrides = overrides
        self.quiet = quiet

    def config(self, **overrides: Any) -> Config:
        """The configuration, with a verb's own options on top.

        Args:
            overrides: values by dotted name, "__" for the dot; None is "not given".
        """
        from ai_os_diffusion.config import load_config, misspelt_variables

        for variable, near in misspelt_variables(os.environ):
            note(f"{variable} is no setting and has no effect; did you mean {near}?", quiet=self.quiet)
        self.quiet = True
        own = {name.replace("__", "."): value for name, value in overrides.items()}
        return load_config(self.config_file, overrides={**self.overrides, **own})

    def runtime(self, **overrides: Any) -> Runtime:
        """Engines and store, each opened when it is first needed."""
        from ai_os_diffusion.runtime import open_runtime

        return open_runtime(self.config(**overrides))


def question_text(words: Sequence[str]) -> str:
    """A question as it was typed, quoted or not; "-" alone is read from standard input.

    Raises:
        IngestError: it is not text.
        UsageError: it holds no word.
    """
    question = read_text() if list(words) == ["-"] else " ".join(map(to_text, words))
    if not question.strip():
        raise UsageError("the question is empty; expected some words")
    return question
