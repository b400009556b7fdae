"""What happened, as an exit code and a line on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from ai_os_diffusion.cli.terminal.interruption import was_heard
from ai_os_diffusion.cli.terminal.json_text import write_json
from ai_os_diffusion.cli.terminal.streams import abandon_output, tell
from ai_os_diffusion.utils.errors import (
    ConfigurationError,
    DiffusionError,
    FilterError,
    MemoryNotFoundError,
    ModelDamagedError,
    ModelNotFoundError,
    QuestionError,
    SamplingError,
    SkillsLockedError,
    StoreCorruptedError,
    StoreLockedError,
    TokenizerFileError,
    WeightError,
)

__all__ = [
    "ExitCode",
    "NotFoundError",
    "ParseError",
    "UsageError",
    "error_dict",
    "error_message",
    "exit_code",
    "reported",
]


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    LOCKED = 4
    CORRUPT = 5
    ABSTAINED = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class NotFoundError(DiffusionError):
    """What the user named is not there."""


class UsageError(DiffusionError):
    """Arguments that do not go together, found after parsing."""


# What Typer's parser raises: only this subclass of it is public.
ParseError: type[Exception] = typer.BadParameter.__mro__[1]

# The first class that fits decides.
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (UsageError, ExitCode.USAGE),
    (ParseError, ExitCode.USAGE),
    (ConfigurationError, ExitCode.USAGE),
    (QuestionError, ExitCode.USAGE),
    (SamplingError, ExitCode.USAGE),
    (FilterError, ExitCode.USAGE),
    (NotFoundError, ExitCode.NOT_FOUND),
    (FileNotFoundError, ExitCode.NOT_FOUND),
    (StoreLockedError, ExitCode.LOCKED),
    (SkillsLockedError, ExitCode.LOCKED),
    (StoreCorruptedError, ExitCode.CORRUPT),
    (WeightError, ExitCode.CORRUPT),
    (ModelDamagedError, ExitCode.CORRUPT),
    (TokenizerFileError, ExitCode.CORRUPT),
    (MemoryNotFoundError, ExitCode.NOT_FOUND),
    (ModelNotFoundError, ExitCode.NOT_FOUND),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
    (BrokenPipeError, ExitCode.BROKEN_PIPE),
)

# Any other error is a fault of ours, and shows where it is.
_EXPECTED = (DiffusionError, OSError, KeyboardInterrupt, MemoryError)


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILURE)


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Turn an expected error into a line on stderr and an exit code.

    Whatever ends a command after Ctrl-C is the Ctrl-C. Errors that nobody foresaw pass through, and so does
    every error but wrong usage when AIOS_DEBUG is set.

    Args:
        as_json: write `{"error": {"type", "message", "exit_code"}}` in place of the line.
    """
    try:
        yield
    except BrokenPipeError:
        abandon_output()
        raise typer.Exit(ExitCode.BROKEN_PIPE) from None
    except ParseError as error:
        if as_json:
            _show_json_error(error)
        else:
            _tell_usage(error)
        raise typer.Exit(exit_code(error)) from None
    except (typer.Exit, typer.Abort, SystemExit):
        raise
    except BaseException as raised:
        told = KeyboardInterrupt() if was_heard() else raised
        if not isinstance(told, _EXPECTED) or os.environ.get("AIOS_DEBUG"):
            raise
        if as_json:
            _show_json_error(told)
        else:
            message = error_message(told)
            tell(message if isinstance(told, KeyboardInterrupt) else f"error: {message}")
        raise typer.Exit(exit_code(told)) from None


def _tell_usage(error: Exception) -> None:
    """What the parser refuses, with a line on usage: as Typer has it, safe to show."""
    context = getattr(error, "ctx", None)
    if context is not None and error_message(error) == context.get_help():
        # Nothing was asked for; this help holds no word of the user's.
        sys.stderr.write(f"{error_message(error)}\n")
        return
    if context is not None:
        tell(context.get_usage())
        tell(f"Try '{context.command_path} --help' for help.\n")
    tell(f"Error: {error_message(error)}")


def _show_json_error(error: BaseException) -> None:
    write_json(sys.stderr, {"error": error_dict(error)})


def error_dict(error: BaseException) -> dict[str, str | int]:
    """An error as JSON-able values: its "type", "message" and "exit_code"."""
    # The parser's own classes are Typer's inner matter.
    kind = "UsageError" if isinstance(error, ParseError) else type(error).__name__
    return {"type": kind, "message": error_message(error), "exit_code": int(exit_code(error))}


def error_message(error: BaseException) -> str:
    """What happened, in one sentence."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, ParseError):
        return str(getattr(error, "format_message", error.__str__)())
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
