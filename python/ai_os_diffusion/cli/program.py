"""The program `aios`: its verbs and its own options."""

# Annotations are values here and not strings, which Typer would evaluate again for each of its own commands.
import sys
from pathlib import Path
from typing import Annotated

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.failures import ExitCode, reported
from ai_os_diffusion.cli.lazy import LazyGroup
from ai_os_diffusion.cli.options import Settings
from ai_os_diffusion.cli.terminal.output import show_line
from ai_os_diffusion.cli.terminal.streams import abandon_output, flush_output, guard_streams

__all__ = ["app", "main"]

app = typer.Typer(
    name="aios",
    cls=LazyGroup,
    no_args_is_help=True,
    suggest_commands=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from ai_os_diffusion import __version__

        show_line(f"aios {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 the store is locked, 5 damaged data, "
    "6 nothing in memory fits, 130 interrupted."
)
def program(
    ctx: typer.Context,
    store: Annotated[
        Path | None, typer.Option("--store", parser=values.path, help="Folder of the memory store.")
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option("--models-dir", parser=values.path, help="Folder of the pulled models.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", parser=values.path, help="YAML file of settings, in place of aios.yaml."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A local AI engine that embeds, remembers and answers on this machine.

    Start with: aios pull minilm, aios add FOLDER, aios recall "a question".
    """
    ctx.obj = Settings(config, {"storage.path": store, "models_dir": models_dir}, quiet=ctx.meta["json"])


def main() -> int | str | None:
    """Parse the command line and run it.

    Returns:
        The exit code of the process.
    """
    code: int | str | None = ExitCode.OK
    guard_streams()
    as_json = "--json" in sys.argv
    try:
        # Ctrl-C may come before any verb is looked for, while Typer reads their signatures.
        with reported(as_json=as_json):
            app(prog_name="aios")
    except SystemExit as ended:
        code = ended.code
    except typer.Exit as ended:
        code = ended.exit_code
    if code == ExitCode.INTERRUPTED:
        # Whoever presses Ctrl-C while a reader makes the program wait does not want to wait for it.
        abandon_output()
    try:
        # What cannot be written shows here at the latest, not in the interpreter's own last flush.
        with reported(as_json=as_json):
            flush_output()
    except typer.Exit as ended:
        code = ended.exit_code
    return code
