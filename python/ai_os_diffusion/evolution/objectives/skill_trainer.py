"""What every training of a skill has: a model, a name, a state, a card."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import layout_json
from ai_os_diffusion.config import load_config
from ai_os_diffusion.evolution.learning.trainer_choice import AnyTrainer, TrainerChoice
from ai_os_diffusion.evolution.learning_state import LearningState
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.objectives.beginnings import Config, begun
from ai_os_diffusion.evolution.objectives.contrastive_learning import ContrastiveLearning
from ai_os_diffusion.evolution.objectives.text_pairs import TextPairs
from ai_os_diffusion.evolution.skills import skill_path
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.cards.description import DIFFUSION
from ai_os_diffusion.training.processes import Processes
from ai_os_diffusion.utils.errors import CardError, TrainingError
from ai_os_diffusion.utils.logger import get_logger
from ai_os_diffusion.utils.loss_picture import check_picture, draw_losses

__all__ = ["BITS", "CONTRASTIVE", "SkillTrainer", "Tell", "go_on"]

_log = get_logger(__name__)

Tell = Callable[[dict[str, Any]], object]

BITS = 8
"""Of the factors of a skill."""

CONTRASTIVE = "contrastive"
_OF_DECODERS = ("causal", DIFFUSION)

_SAVED_EVERY_S = 30.0


class Run(Protocol):
    """A training, step by step."""

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken."""

    @property
    def recent_loss(self) -> float:
        """Of the last epoch."""

    def step(self) -> dict[str, Any]:
        """Take a step; what it tells."""

    def trained(self) -> Mapping[str, NDArray[np.float32]]:
        """What the card has, by name."""

    def take_up(self, state: LearningState) -> None:
        """Go on where a state is."""

    def save(self, state: LearningState) -> None:
        """Write how far it is."""


class SkillTrainer:
    """The part of `LoRATrainer` that is the same whatever is learned, and what encoders learn."""

    def __init__(
        self,
        model: ArrowEngine | str | Path,
        tokenizer: Any = None,
        config: Config | None = None,
        *,
        folder: str | Path | None = None,
        objective: str | None = None,
        num_threads: int = 0,
        trainer: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._choice = TrainerChoice.of(trainer, device)
        self.processes = self._choice.processes
        self._engine = model if isinstance(model, ArrowEngine) else ArrowEngine(model)
        known: Sequence[str] = _OF_DECODERS if self._engine.metadata.is_decoder else (CONTRASTIVE,)
        self.objective = known[0] if objective is None else objective
        if self.objective not in known:
            raise TrainingError(
                f"objective is {objective!r}, expected {' or '.join(map(repr, known))} for "
                f"{self._engine.folder.name}"
            )
        self._beneath = _card_of_diffusion(self._engine) if self.objective == DIFFUSION else None
        if tokenizer is not None and tokenizer is not self._engine.tokenizer:
            own = getattr(tokenizer, "vocab_size", None)
            if own is not None and own != self._engine.tokenizer.vocab_size:
                raise TrainingError(
                    f"the tokenizer has {own} tokens, that of the model {self._engine.tokenizer.vocab_size}"
                )
        self.config: Config = config or LoRAConfig()
        self.folder = Path(folder) if folder is not None else load_config().skills_dir
        self.anchors, self.paraphrases = self.folder / ".anchor", self.folder / ".paraphrases"
        self._num_threads = num_threads
        self._metadata_json = (self._engine.folder / "metadata.json").read_text(encoding="utf-8")
        self._targets = self.config.targets(json.loads(layout_json(self._metadata_json)))

    def _new_trainer(
        self, layers: Sequence[Mapping[str, Any]] | None = None, config: Config | None = None
    ) -> AnyTrainer:
        """A trainer whose card changes nothing yet.

        Args:
            layers: that get something, by default all of the configuration.
            config: by default the own.
        """
        config = config or self.config
        return self._choice.new_trainer(
            self._engine,
            self._metadata_json,
            begun(self._targets if layers is None else layers, config, self._weight_of),
            config,
            self._beneath,
            self._num_threads,
        )

    def _weight_of(self, layer: str) -> NDArray[np.float32]:
        """The weights of a layer as the engine computes with them, float32[outputs, inputs]."""
        return self._engine.weights.native.dequantize(f"{layer}.weight")

    def _write(self, path: Path, description: CardDescription, run: Run) -> Card:
        """The card of what was learned."""
        weight_of = self._weight_of if self.config.use_dora else None
        return Card.write(path, description, run.trained().items(), bits=BITS, weight_of=weight_of)

    @property
    def parameters(self) -> int:
        """Numbers that a skill trains, at most."""
        return self.config.numbers(self._targets)

    def train_pairs(
        self,
        pairs: Iterable[Any],
        name: str,
        *,
        epochs: int = 3,
        picture: Path | None = None,
        tell: Tell = lambda _line: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Card:
        """Learn which texts an encoder is to find for which queries.

        Each query is told apart from the texts of all others of its step: `batch_size` says how many. Anchor,
        dropped words and paraphrases of `config` are for answers and count nothing here; patience and
        `selected` are refused. What was broken off goes on.

        Args:
            pairs: of texts; or mappings with `query` and `positive`; or `TextPairs`.
            name: of the skill: what it is attached and detached as.
            epochs: how often each pair is shown.
            picture: a file, .svg, .png or .html, for the losses.
            tell: is told after every step `step`, `steps`, `epoch`, `loss`, `tokens`, `seconds`.
            is_stopped: is asked after every step whether to break off.

        Returns:
            The card, a file in `folder`, which `engine.attach` takes.

        Raises:
            TrainingError: as of `train_qa`, or the model is a decoder.
            CardError: a skill of that name is there.
        """
        if self.objective != CONTRASTIVE:
            raise TrainingError(
                f"{self._engine.folder.name} is a decoder and finds nothing; expected an encoder, or train_qa"
            )
        if self.config.patience:
            raise TrainingError(
                f"patience is {self.config.patience}, expected 0, and no validation: an encoder learns "
                "as many epochs as it is told"
            )
        if isinstance(self.config, LoRAConfig) and self.config.selected < 1:
            raise TrainingError(
                f"selected is {self.config.selected}, expected 1: the layers of an encoder are not chosen"
            )
        checked = pairs if isinstance(pairs, TextPairs) else TextPairs.of(pairs)
        path = self._path_of(name, epochs)
        if picture is not None:
            check_picture(picture)
        if checked.repeated:
            _log.warning("%d pairs are there more than once; each is learned once", checked.repeated)
        run = ContrastiveLearning(self._engine, self._new_trainer(), self.config, checked, epochs)
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._state(name, checked.digest, epochs)
        self._go_on(run, state, name, epochs, tell, is_stopped)
        with self.processes.first_ahead():
            if not self.processes.is_first:
                return Card(path)
            if picture is not None:
                draw_losses(run.records, picture)
            data = (len(checked), checked.digest)
            described = self._description(name, data, {}, run.steps, run.recent_loss)
            card = self._write(path, described, run)
            state.remove()
            return card

    def _go_on(
        self,
        run: Run,
        state: LearningState,
        name: str,
        epochs: int,
        tell: Tell,
        is_stopped: Callable[[], bool],
    ) -> None:
        """Take all steps that are left, as the only one; others wait until the state is removed."""
        if self.processes.is_first:
            state.hold()
        try:
            # It may have been learned by another process since it was looked for.
            self._path_of(name, epochs)
            go_on(run, state, name, tell, is_stopped, self.processes)
        except BaseException:
            state.release()
            raise

    def _path_of(self, name: str, epochs: int) -> Path:
        """Where a skill of that name will be."""
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise TrainingError(f"epochs is {epochs!r}, expected 1 or more")
        path = skill_path(name, self.folder)
        if path is None:
            raise TrainingError(f"{name!r} is no name of a skill; expected letters, digits, '-', '_' and '.'")
        if path.exists():
            raise CardError(f"{path}: a skill of that name is there; remove it, or give another name")
        return path

    def _state(self, name: str, digest: str, epochs: int, validation: str = "") -> LearningState:
        """How far the same learning has come."""
        about = {
            "name": name,
            "pairs": digest,
            "validation": validation,
            "epochs": epochs,
            "base": Base.of_folder(self._engine.folder).weights_sha256,
            **self.config.to_dict(),
            "objective": self.objective,
            **self._learned_on,
            **self._choice.described,
        }
        return LearningState(self.folder / f".{name}.learning", about)

    @property
    def _learned_on(self) -> dict[str, Any]:
        """The card that the new one is attached beside, as it names it."""
        card = self._beneath
        return {} if card is None else {"learned_on": {"name": card.name, "sha256": card.sha256}}

    def _description(
        self,
        name: str,
        data: tuple[int, str],
        told: Mapping[str, Any],
        steps: int,
        loss: float,
    ) -> CardDescription:
        """What a card says of itself.

        Args:
            name: of the skill.
            data: number of pairs, and their digest.
            told: what its use needs to know.
            steps: that were taken.
            loss: of the last epoch.
        """
        pairs, digest = data
        return CardDescription(
            name=name,
            base=Base.of_folder(self._engine.folder),
            **self.config.described,
            config={
                "objective": self.objective,
                **self._learned_on,
                **self.config.to_dict(),
                **told,
            },
            metrics={"pairs": pairs, "steps": steps, "loss": loss},
            data_sha256=digest,
            created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )


def go_on(
    run: Run,
    state: LearningState,
    name: str,
    tell: Tell,
    is_stopped: Callable[[], bool],
    processes: Processes,
    saved_every_s: float | None = None,
) -> None:
    """Take all steps that are left, and write now and then how far it is; the first process does both."""
    run.take_up(state)
    saved, every_s = time.monotonic(), _SAVED_EVERY_S if saved_every_s is None else saved_every_s
    while not run.is_done:
        told = run.step()
        if processes.is_first:
            tell(told)
        if processes.agreed(is_stopped()):
            if processes.is_first:
                run.save(state)
            raise TrainingError(f"learning {name!r} was broken off; the same call goes on with it")
        if processes.is_first and time.monotonic() - saved > every_s:
            run.save(state)
            saved = time.monotonic()


def _card_of_diffusion(engine: ArrowEngine) -> Card:
    """The card with which an engine writes by diffusion.

    Raises:
        TrainingError: there is none, or a part of it.
    """
    cards = [one for one in engine.core.cards.in_use(DIFFUSION).cards if one[0].description.kind == DIFFUSION]
    if len(cards) != 1 or cards[0][1] != 1:
        found = ", ".join(f"{card.name} at weight {weight:g}" for card, weight in cards) or "none"
        raise TrainingError(
            f"{engine.folder.name}: skills of the mode {DIFFUSION!r} are learned on one card of that kind at "
            f"weight 1; attached: {found}; attach one, or take a model that has one, as smollm2-diffusion"
        )
    return cards[0][0]
