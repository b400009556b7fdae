"""`aios skills`."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.completion import model_names
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import DryRun, Json, Question, Quiet, Settings, Yes, question_text
from ai_os_diffusion.cli.terminal.output import (
    confirm,
    note,
    show_json,
    show_line,
    show_row,
    show_table,
    size_text,
)

if TYPE_CHECKING:
    from ai_os_diffusion.config import Config
    from ai_os_diffusion.contracts import Message
    from ai_os_diffusion.evolution import LoRACard

__all__ = ["Mode", "SkillMode", "app", "card_dict", "with_decoder"]

app = new_app()
skills = new_app(help="List, show, ask and remove the skills that were learned.")
app.add_typer(skills, name="skills")

SkillName = Annotated[str, typer.Argument(metavar="NAME", parser=values.name, help="Of the skill.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A decoder: a name or folder.", autocompletion=model_names),
]


class SkillMode(str, Enum):
    """How the model writes."""

    AR = "ar"
    DIFFUSION = "diffusion"


Mode = Annotated[
    SkillMode,
    typer.Option("--mode", help="How it writes: token by token, or by diffusion, as smollm2-diffusion can."),
]


@skills.callback(invoke_without_command=True)
def list_all(ctx: typer.Context, as_json: Json = False) -> None:
    """List the skills."""
    if ctx.invoked_subcommand is not None:
        return
    from ai_os_diffusion.evolution import list_skills

    settings: Settings = ctx.obj
    found = list_skills(settings.config().skills_dir)
    if as_json:
        show_json([card_dict(card) for card in found])
        return
    rows = [
        (
            card.name,
            card.description.kind,
            card.description.base.name,
            str(card.description.metrics.get("pairs", "-")),
            str(card.description.rank or "-"),
            size_text(card.path.stat().st_size),
        )
        for card in found
    ]
    if rows:
        show_table(
            ["name", "kind", "base", "questions", "rank", "size"], rows, right=["questions", "rank", "size"]
        )
    else:
        note("no skills yet: aios learn FILE")


@skills.command()
def show(ctx: typer.Context, name: SkillName, as_json: Json = False) -> None:
    """Show what a skill says of itself."""
    from ai_os_diffusion.evolution import find_skill

    settings: Settings = ctx.obj
    about = card_dict(find_skill(name, settings.config().skills_dir))
    if as_json:
        show_json(about)
        return
    for key, value in about.items():
        show_row((key, value))


@skills.command()
def ask(
    ctx: typer.Context,
    question: Question,
    name: Annotated[
        str | None,
        typer.Option("--skill", parser=values.name, help="A skill; else the one it belongs to, if any."),
    ] = None,
    model: Model = None,
    mode: Mode = SkillMode.AR,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=4096, help="Length at most.")] = 64,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Ask the model with the skill that a question belongs to, without memory."""
    from ai_os_diffusion.evolution import Route, find_skill
    from ai_os_diffusion.runtime import open_runtime

    settings: Settings = ctx.obj
    config = with_decoder(settings, model)
    card = None if name is None else find_skill(name, config.skills_dir)
    text, said = question_text(question), ""
    with open_runtime(config) as runtime:
        engine = runtime.decoder
        chosen = runtime.skills.using(text, mode.value) if card is None else engine.using(card)
        with chosen as found:
            if mode is SkillMode.DIFFUSION:
                said = str(engine.diffuse(text, max_tokens=max_tokens)).strip()
            else:
                turn: Message = {"role": "user", "content": text}
                said = str(engine.generate(messages=[turn], max_tokens=max_tokens)).strip()
    route = found if isinstance(found, Route) else None
    skill = card if route is None else route.skill
    used = None if skill is None else skill.name
    if as_json:
        told = {"question": text, "answer": said, "skill": used}
        why = {name: getattr(route, name, None) for name in ("similarity", "threshold", "example")}
        show_json(told | {name: round(it, 4) if isinstance(it, float) else it for name, it in why.items()})
        return
    show_line(said)
    if route is not None and route.example:
        near = f"nearest to {route.example!r}, {route.similarity:.2f} of {route.threshold:.2f} needed"
        note(f"skill {used}: {near}" if used else f"no skill: {near}", quiet=quiet)


@skills.command()
def rm(
    ctx: typer.Context, name: SkillName, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Remove a skill, with the versions before."""
    from ai_os_diffusion.evolution import Decision, DecisionLog, remove_skill
    from ai_os_diffusion.evolution.skills import skill_files

    settings: Settings = ctx.obj
    folder = settings.config().skills_dir
    freed = sum(path.stat().st_size for path in skill_files(name, folder))
    if not dry_run:
        if not yes:
            confirm(f"Remove {name}?", as_json=as_json)
        remove_skill(name, folder)
        DecisionLog(folder).append(Decision(name, "removed"))
    if as_json:
        show_json({"removed": [name], "size_bytes": freed, "dry_run": dry_run})
    else:
        show_line(f"{'would free' if dry_run else 'freed'} {size_text(freed)}")


def with_decoder(settings: Settings, model: str | None) -> Config:
    """The configuration, with that decoder where one is named."""
    config = settings.config()
    return config if model is None else replace(config, model=replace(config.model, decoder=model))


def card_dict(card: LoRACard) -> dict[str, Any]:
    """What is shown of a skill as JSON."""
    about = card.description
    return {
        "name": card.name,
        "path": str(card.path),
        "kind": about.kind,
        "mode": about.mode,
        "base": about.base.name,
        "rank": about.rank,
        "side_width": about.side_width,
        "size_bytes": card.path.stat().st_size,
        "metrics": dict(about.metrics),
        "created_at": about.created_at,
    }
