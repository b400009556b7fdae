"""`aios evolve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Device, Json, Quiet, Settings, Yes, question_text
from ai_os_diffusion.cli.terminal.interruption import deferred
from ai_os_diffusion.cli.terminal.output import (
    confirm,
    note,
    show_json,
    show_json_line,
    show_line,
    show_row,
    show_table,
)
from ai_os_diffusion.cli.terminal.progress import ProgressBar
from ai_os_diffusion.cli.verbs.learning import told_learning

if TYPE_CHECKING:
    from ai_os_diffusion.evolution import Decision, EvolutionStatus

__all__ = ["app"]

app = new_app()
evolve = new_app(help="Learn what people corrected, in the background, and take it back.")
app.add_typer(evolve, name="evolve")

Text = Annotated[list[str], typer.Argument(metavar="ANSWER", help="The right one, quoted or not.")]


@evolve.command()
def correct(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="As it was asked, quoted.")],
    answer: Text,
    said: Annotated[str, typer.Option("--said", help="What was answered instead.")] = "",
    wordings: Annotated[
        list[str] | None,
        typer.Option("--wording", help="The same question in other words; repeatable."),
    ] = None,
    skill: Annotated[
        str | None, typer.Option("--skill", help="Where it belongs; else where it would be asked.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell the right answer to a question; `aios evolve run` learns it."""
    settings: Settings = ctx.obj
    with settings.runtime() as runtime:
        taken = runtime.skills.correct(
            question_text([question]),
            question_text(answer),
            said=said,
            wordings=[question_text([wording]) for wording in wordings or ()],
            skill=skill,
        )
    if as_json:
        show_json(taken.to_dict())
    else:
        show_row((taken.question, taken.answer))


@evolve.command()
def run(
    ctx: typer.Context,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", min=0, callback=values.finite, help="Break off learning then; the next run goes on."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what comes in, of low priority, until Ctrl-C.")
    ] = False,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="How often each question is asked.")] = 30,
    device: Annotated[
        Device, typer.Option("--device", help="Where it learns; auto takes a GPU if torch sees one.")
    ] = Device.CPU,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Learn what waits, keep what helps and harms nothing, and retire what no longer helps.

    Ctrl-C breaks off; the next run goes on with the same training. A version that is kept puts the one before
    aside, and `aios evolve rollback` brings it back.
    """
    from ai_os_diffusion.evolution import Budget
    from ai_os_diffusion.runtime.background_learning import lower_priority

    settings: Settings = ctx.obj
    with settings.runtime() as runtime:
        if watch:
            lower_priority()
        worker = runtime.skills.worker(epochs=epochs, budget=Budget(seconds=seconds), device=device.value)
        with deferred() as stop, ProgressBar(unit="steps", quiet=quiet) as bar:

            def tell(line: dict[str, Any]) -> None:
                if "anchor_texts" in line:
                    bar("preparing", line["anchor_texts"], line["of"])
                else:
                    bar(f"learning {line['skill']}", line["step"], line["steps"], f"loss {line['loss']:.3f}")

            if watch:
                for done in worker.watch(stop.wait, tell, lambda: stop.asked):
                    for decision in done.decisions:
                        _show_decision(decision, as_json=as_json, in_lines=True)
                broken_off = False
            else:
                done = worker.run(tell, lambda: stop.asked)
                broken_off = done.is_broken_off
    if watch:
        raise KeyboardInterrupt
    if as_json:
        show_json(
            {"decisions": [decision.to_dict() for decision in done.decisions], "is_broken_off": broken_off}
        )
    else:
        for decision in done.decisions:
            _show_decision(decision, as_json=False)
        if not done.decisions and not broken_off:
            note("nothing waits to be learned: aios evolve correct QUESTION ANSWER", quiet=quiet)
    if broken_off:
        note("broken off; aios evolve run goes on with it", quiet=quiet or as_json)
        if stop.asked:
            raise KeyboardInterrupt


@evolve.command()
def status(
    ctx: typer.Context,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", parser=values.output, help="Draw what was decided: an .html or .svg file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the skills with their versions, what waits, what is worth correcting, and what was decided."""
    from ai_os_diffusion.evolution import DecisionLog, EvolutionStatus
    from ai_os_diffusion.evolution.loop.history_picture import draw_history

    settings: Settings = ctx.obj
    folder = settings.config().skills_dir
    found = EvolutionStatus.of(folder)
    if plot is not None:
        draw_history(DecisionLog(folder).read(), plot)
    if as_json:
        show_json(found.to_dict())
    else:
        _show_status(found)


@evolve.command()
def history(ctx: typer.Context, as_json: Json = False) -> None:
    """List what was decided about skills, and why."""
    from ai_os_diffusion.evolution import DecisionLog

    settings: Settings = ctx.obj
    found = DecisionLog(settings.config().skills_dir).read()
    if as_json:
        show_json([decision.to_dict() for decision in found])
    elif found:
        show_table(
            ["when", "skill", "decision", "why"],
            [(one.decided_at, one.skill or "-", one.decision, _why(one)) for one in found],
        )
    else:
        note("nothing was decided yet: aios learn FILE, or aios evolve correct QUESTION ANSWER")


@evolve.command()
def rollback(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A skill; else the one that was kept or retired last."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put the version before in the place of a skill.

    Of a first version nothing is left; a skill that was retired comes back.
    """
    from ai_os_diffusion.evolution import SkillVersions

    settings: Settings = ctx.obj
    versions = SkillVersions(settings.config().skills_dir)
    with versions.locked():
        skill = versions.latest() if name is None else name
        if not yes:
            confirm(f"Roll {skill} back?", as_json=as_json)
        decision = versions.rollback(skill)
    _show_decision(decision, as_json=as_json)


@evolve.command()
def consolidate(
    ctx: typer.Context,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="How often each question is asked.")] = 10,
    device: Annotated[
        Device, typer.Option("--device", help="Where it learns; auto takes a GPU if torch sees one.")
    ] = Device.CPU,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Teach the model itself what its skills know, and use that version if it is no worse anywhere.

    All weights are trained, which takes torch; the model so far stays as it is, and `aios evolve model` goes
    back to it. Ctrl-C breaks off; the same command goes on.
    """
    settings: Settings = ctx.obj
    with settings.runtime() as runtime:
        consolidation = runtime.skills.consolidation(epochs=epochs, device=device.value)
        with told_learning(quiet) as told:
            decision = consolidation.run(**told)
    _show_decision(decision, as_json=as_json)


@evolve.command()
def model(
    ctx: typer.Context,
    version: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", parser=values.name, help="That is used from now on."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the versions of the model that answers, or use another: the model's own name goes back to it."""
    from ai_os_diffusion.models.model_versions import ModelVersions

    settings: Settings = ctx.obj
    config = settings.config()
    versions, own = ModelVersions(config.models_dir), config.model.decoder
    if version is not None:
        versions.use(own, version)
    current = versions.current(own)
    if as_json:
        show_json({"model": own, "version": current, "versions": versions.names(own)})
        return
    for name in versions.names(own):
        show_row((name, "in use" if name == current else ""))


def _show_decision(decision: Decision, *, as_json: bool, in_lines: bool = False) -> None:
    if as_json:
        (show_json_line if in_lines else show_json)(decision.to_dict())
    else:
        show_row((decision.skill or "-", decision.decision, _why(decision)))


def _why(decision: Decision) -> str:
    said = "; ".join(decision.reasons)
    asked = decision.inputs.get("situation")
    if isinstance(asked, dict) and asked.get("query"):
        return f"{said}: {asked['query']!s}"
    return said or ", ".join(f"{what} {value:.3g}" for what, value in decision.figures.items())


def _show_status(found: EvolutionStatus) -> None:
    rows = [
        (
            one.name,
            one.version or "retired",
            one.pairs,
            f"{one.kept}/{one.rejected}",
            *("-" if share is None else f"{share:.0%}" for share in (one.right_before, one.right_after)),
        )
        for one in found.skills
    ]
    figures = ["version", "pairs", "kept/rejected", "right without", "right with"]
    if rows:
        show_line("Skills")
        show_table(["skill", *figures], rows, right=figures)
    if found.waiting:
        show_line("Waiting")
        waiting = [(fact.questions[0], fact.answer, fact.skill, fact.tries) for fact in found.waiting]
        show_table(["question", "answer", "skill", "rejected"], waiting, right=["rejected"])
    if found.uncertain:
        show_line("Worth correcting")
        asked = [(one.question, one.answer or None, one.uncertainty, one.times) for one in found.uncertain]
        show_table(["question", "answer", "wrong with", "asked"], asked, right=["wrong with", "asked"])
    if found.decisions:
        show_line("Decided")
        show_table(["decision", "times"], list(found.decisions.items()), right=["times"])
    if found.is_begun:
        note("a learning was broken off; aios evolve run goes on with it")
    if not (rows or found.waiting or found.uncertain or found.decisions):
        note("nothing was learned or corrected yet: aios evolve correct QUESTION ANSWER")
