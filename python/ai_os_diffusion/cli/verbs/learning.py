"""`aios learn`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.completion import model_names
from ai_os_diffusion.cli.failures import UsageError
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Device, Json, Quiet, Settings
from ai_os_diffusion.cli.terminal.interruption import deferred
from ai_os_diffusion.cli.terminal.output import (
    note,
    show_json,
    show_row,
    show_table,
    size_text,
)
from ai_os_diffusion.cli.terminal.progress import ProgressBar
from ai_os_diffusion.cli.verbs.skills import Mode, SkillMode, card_dict, with_decoder

if TYPE_CHECKING:
    from ai_os_diffusion.config import Config
    from ai_os_diffusion.evolution import ControlConfig, LoRAConfig, SkillTest

__all__ = ["app", "told_learning"]

app = new_app()

Learner = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A decoder; or an encoder, which learns to find.", autocompletion=model_names
    ),
]


class Method(str, Enum):
    """What is learned."""

    LORA = "lora"
    CONTROL = "control"


class Trainer(str, Enum):
    """What learns."""

    NATIVE = "native"
    TORCH = "torch"


_ASKED = 40
"""Questions of the training that are asked again to show what was learned."""

_SELECTIVE_RANK = 64
"""With which few layers are trained: as many as have no more numbers than all of the usual rank."""

_FEW_EPOCHS = 3
"""Of what is no fact to be stored."""

_PATIENCE = 5
"""Epochs, where wordings are given that say when to stop."""


@app.command()
def learn(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(parser=values.path, help="Questions and answers: .jsonl, .json or .csv with q and a."),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", parser=values.name, help="Of the skill, by default that of the file."),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", parser=values.path, help="Other wordings, by which it is judged."),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option("--validation", parser=values.path, help="Other wordings, which say when to stop."),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Keep it only if it helps, and harms nothing elsewhere.")
    ] = True,
    model: Learner = None,
    mode: Mode = SkillMode.AR,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="How often each pair is shown: 30; to an encoder or control 3."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option("--patience", min=1, help="Epochs without a gain on other wordings until it stops."),
    ] = None,
    paraphrases: Annotated[
        int,
        typer.Option(
            "--paraphrases", min=0, help="Other wordings of each question that the model writes, at most."
        ),
    ] = 0,
    method: Annotated[
        Method,
        typer.Option("--method", help="Learn what is said; or a control, how: the structure of the answers."),
    ] = Method.LORA,
    rank: Annotated[
        int | None,
        typer.Option("--rank", min=1, help="Of the factors: how much fits in; 8, selective 64."),
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=1, help="Of the side blocks of a control: 64.")
    ] = None,
    blocks: Annotated[
        int | None, typer.Option("--blocks", min=1, help="How many a control has, evenly spread: 6.")
    ] = None,
    selective: Annotated[
        bool,
        typer.Option("--selective", help="Train the layers alone that matter most here, as much of each."),
    ] = False,
    dora: Annotated[
        bool,
        typer.Option("--dora", help="Learn lengths of the weights' rows apart from their directions (DoRA)."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")] = 0,
    device: Annotated[
        Device, typer.Option("--device", help="Where it learns; auto takes a GPU if torch sees one.")
    ] = Device.CPU,
    trainer: Annotated[
        Trainer | None,
        typer.Option("--trainer", help="By default native on a CPU, and torch on a GPU; cards are alike."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", parser=values.path, help="Draw the losses: a file, .svg, .png or .html."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Learn a skill from questions and answers, on this machine.

    The model stays as it is: what was learned is a small file, used for questions like those it was learned
    from, and kept if it answers other wordings of them and changes nothing elsewhere. Ctrl-C breaks off; the
    same command goes on. An encoder learns which texts its queries are to find, and is not judged by a gate.
    A control learns the structure of the answers, whatever is asked: right is what is built so, and it is
    used where it is named.
    """
    from ai_os_diffusion.evolution import LoRATrainer, QAPairs, SkillTest
    from ai_os_diffusion.evolution.judging.skill_test import room_of
    from ai_os_diffusion.runtime import open_runtime
    from ai_os_diffusion.utils.loss_picture import check_picture

    settings: Settings = ctx.obj
    config = with_decoder(settings, model)
    if plot is not None:
        check_picture(plot)
    patience = patience or (0 if validation is None else _PATIENCE)
    is_control = method is Method.CONTROL
    sizes = {
        "rank": rank,
        "selective": selective or None,
        "dora": dora or None,
        "width": width,
        "blocks": blocks,
    }
    on: dict[str, Any] = {
        "config": _config_of(
            is_control, sizes, {"seed": seed, "patience": patience, "paraphrases": paraphrases}
        ),
        "folder": config.skills_dir,
        "objective": None if mode is SkillMode.AR else mode.value,
        "device": device.value,
        "trainer": None if trainer is None else trainer.value,
    }
    if model is not None and _is_encoder(model, config):
        parts = {"as learned": file} if test is None else {"as learned": file, "other pairs": test}
        how = {"name": name or file.stem, "epochs": epochs or _FEW_EPOCHS, "picture": plot}
        _learn_pairs(parts, config, on, how, quiet, as_json)
        return
    pairs = QAPairs.read(file)
    held_out = pairs.in_other_words(_ASKED, seed) if test is None else QAPairs.read(test).pairs
    wordings = () if validation is None else QAPairs.read(validation).pairs
    asked = {"as learned": pairs.pairs[:_ASKED], "other wordings": held_out}
    with open_runtime(config) as runtime:
        engine = runtime.decoder
        judges = runtime.skills.gate(mode.value) if gate else None
        learner = LoRATrainer(engine, **on)
        with told_learning(quiet) as told:
            card = learner.train_qa(
                pairs,
                name or file.stem,
                epochs=epochs or (_FEW_EPOCHS if is_control else 30),
                held_out=held_out,
                validation=wordings,
                embed=runtime.encoder.encode_query if paraphrases else None,
                gate=judges,
                picture=plot,
                **told,
            )
        if not learner.processes.is_first:
            return
        room = {"room": room_of(engine, pairs)} if is_control else {}
        # The model is what it was: asked now, nothing was computed for pairs that cannot be learned.
        before = {what: SkillTest.of(engine, those, mode.value, **room) for what, those in asked.items()}
        with engine.using(card):
            after = {what: SkillTest.of(engine, those, mode.value, **room) for what, those in asked.items()}
    figures = {what: _figures(before[what], after[what], is_control) for what in asked}
    if as_json:
        show_json({**card_dict(card), "asked": figures})
        return
    _show_before_and_after(figures)
    show_row((card.name, size_text(card.path.stat().st_size), card.path))


def _config_of(is_control: bool, sizes: dict[str, Any], others: dict[str, Any]) -> LoRAConfig | ControlConfig:
    """How it is learned.

    Args:
        is_control: whether a control is.
        sizes: `rank`, `selective` and `dora` of a skill, `width` and `blocks` of a control; None where not
            given.
        others: settings of both.

    Raises:
        UsageError: a size of the other is given.
    """
    from ai_os_diffusion.evolution import ControlConfig, LoRAConfig

    given = {name: value for name, value in sizes.items() if value is not None}
    strange = given.keys() & ({"rank", "selective", "dora"} if is_control else {"width", "blocks"})
    if strange:
        method = "lora" if is_control else "control"
        raise UsageError(f"--{min(strange)} is for --method {method}")
    if is_control:
        return ControlConfig(**given, **others)
    rank = given.get("rank") or (_SELECTIVE_RANK if given.get("selective") else LoRAConfig.rank)
    selected = min(1.0, LoRAConfig.rank / rank) if given.get("selective") else 1.0
    return LoRAConfig(rank=rank, selected=selected, use_dora="dora" in given, **others)


def _is_encoder(model: str, config: Config) -> bool:
    from ai_os_diffusion.models.local_models import resolve_model
    from ai_os_diffusion.models.metadata import ModelMetadata

    folder = resolve_model(model, models_dir=config.models_dir)
    return not ModelMetadata.from_folder(folder).is_decoder


def _learn_pairs(
    files: dict[str, Path],
    config: Config,
    on: dict[str, Any],
    how: dict[str, Any],
    quiet: bool,
    as_json: bool,
) -> None:
    """What an encoder learns from the first file.

    Args:
        files: of pairs, by what they are.
        config: of the program.
        on: what a trainer takes.
        how: what its `train_pairs` takes.
        quiet: no progress.
        as_json: in place of a table.
    """
    from ai_os_diffusion.evolution import LoRATrainer, TextPairs
    from ai_os_diffusion.runtime import open_runtime

    parts = {what: TextPairs.read(file) for what, file in files.items()}
    with open_runtime(config) as runtime:
        engine = runtime.decoder
        learner = LoRATrainer(engine, **on)
        with told_learning(quiet) as told:
            card = learner.train_pairs(parts["as learned"], **how, **told)
        if not learner.processes.is_first:
            return
        before = {what: pairs.found_by(engine) for what, pairs in parts.items()}
        with engine.using(card):
            after = {what: pairs.found_by(engine) for what, pairs in parts.items()}
    if as_json:
        figures = {
            what: {"queries": len(pairs), "found_before": before[what], "found_after": after[what]}
            for what, pairs in parts.items()
        }
        show_json({**card_dict(card), "asked": figures})
        return
    rows = [
        (what, str(len(pairs)), f"{before[what]:.0%}", f"{after[what]:.0%}") for what, pairs in parts.items()
    ]
    show_table(["found first", "queries", "before", "after"], rows, right=["queries", "before", "after"])
    show_row((card.name, size_text(card.path.stat().st_size), card.path))


@contextmanager
def told_learning(quiet: bool) -> Iterator[dict[str, Any]]:
    """A progress bar, and Ctrl-C that ends a training with its step: what a training is told of them."""
    from ai_os_diffusion.utils.errors import TrainingError

    with deferred() as stop, ProgressBar(unit="steps", quiet=quiet) as bar:

        def tell(line: dict[str, Any]) -> None:
            if "anchor_texts" in line:
                bar("preparing", line["anchor_texts"], line["of"])
            elif "paraphrased" in line:
                bar("rewording", line["paraphrased"], line["of"])
            else:
                bar("learning", line["step"], line["steps"], f"loss {line['loss']:.3f}")

        try:
            yield {"tell": tell, "is_stopped": lambda: stop.asked}
        except TrainingError as error:
            if not stop.asked:
                raise
            note(str(error), quiet=quiet)
            raise KeyboardInterrupt from None


def _show_before_and_after(figures: dict[str, dict[str, Any]]) -> None:
    columns = ["questions", "right before", "right after", "F1 before", "F1 after"]
    rows = [
        (
            what,
            str(found["questions"]),
            *(f"{found[share]:.0%}" for share in ("right_before", "right_after")),
            *(f"{found[share]:.2f}" for share in ("f1_before", "f1_after")),
        )
        for what, found in figures.items()
    ]
    show_table(["asked", *columns], rows, right=columns)


def _figures(before: SkillTest, after: SkillTest, is_control: bool) -> dict[str, Any]:
    """Shares and means; of a control, right is what is built as expected."""
    rights = [
        sum(test.in_structure if is_control else test.right) / max(len(test.pairs), 1)
        for test in (before, after)
    ]
    return {
        "questions": len(before.pairs),
        "right_before": round(rights[0], 4),
        "right_after": round(rights[1], 4),
        "f1_before": round(before.f1, 4),
        "f1_after": round(after.f1, 4),
    }
