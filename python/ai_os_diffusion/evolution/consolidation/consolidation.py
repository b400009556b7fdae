"""A model that learns by itself what its skills know."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution.anchor import AnchorTexts
from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
from ai_os_diffusion.evolution.judging.gate import held_out_of, learned_of
from ai_os_diffusion.evolution.judging.model_gate import ModelGate
from ai_os_diffusion.evolution.judging.tolerances import Tolerances
from ai_os_diffusion.evolution.learning.question_learning import QuestionLearning
from ai_os_diffusion.evolution.learning.trainer_choice import TrainerChoice
from ai_os_diffusion.evolution.learning_state import LearningState
from ai_os_diffusion.evolution.loop.skill_versions import SkillVersions
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.objectives.skill_trainer import Tell, go_on
from ai_os_diffusion.evolution.qa_pairs import QAPairs
from ai_os_diffusion.evolution.question_batches import QuestionBatches, end_of
from ai_os_diffusion.evolution.skill_router import Embed, SkillRouter
from ai_os_diffusion.evolution.skills import list_skills
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Base
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.convert.folder import copy_model
from ai_os_diffusion.models.convert.plain_model import write_plain_model
from ai_os_diffusion.models.model_versions import ModelVersions
from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["Consolidation"]

_log = get_logger(__name__)

_RATE = 3e-5
"""Of all weights; factors, which begin at nothing, take thirty times as much."""

_TOO_FEW_BITS = ("int4", "int2")
"""Rounded to these, weights lose what all of them were changed by, and more."""

_SAVED_EVERY_S = 600.0
"""A state holds each weight three times."""


class Consolidation:
    """All weights of a model learn the questions of all its skills, with its own texts as an anchor.

    The model so far stays as it is. What comes of it is judged, and becomes a version of the model that
    stands for its name; `ModelVersions.use` goes back.

    Args:
        engine: the version so far.
        embed: as for `SkillRouter`.
        folder: of the skills.
        versions: of models.
        model: the name that the model is used by.
        config: of the training, factors aside; by default `LoRAConfig` at a rate of 3e-5.
        epochs: how often each question is asked.
        device: "cpu", "cuda" or "auto".
        tolerances: how much of the rest may change.

    Raises:
        TrainingError: torch is missing; or no skill of this version holds what it was learned from.
        DeviceError: there is no such GPU.
    """

    def __init__(
        self,
        engine: ArrowEngine,
        embed: Embed,
        folder: Path,
        versions: ModelVersions,
        model: str,
        *,
        config: LoRAConfig | None = None,
        epochs: int = 10,
        device: str = "cpu",
        tolerances: Tolerances | None = None,
    ) -> None:
        self._choice = TrainerChoice.of("torch", device)
        if self._choice.processes.size > 1:
            raise TrainingError("several processes were begun; expected one: all weights are trained in one")
        self._engine, self._embed, self._versions, self._model = engine, embed, versions, model
        self._skills, self._config = SkillVersions(folder), config or LoRAConfig(rate=_RATE)
        self._epochs, self._tolerances = epochs, tolerances
        cards = [card for card in list_skills(folder) if card.description.mode in (None, "ar")]
        for card in cards:
            if held_out_of(card) and not learned_of(card):
                _log.warning(
                    "%s does not hold the questions it was learned from; they are not learned", card.name
                )
        self._cards = [card for card in cards if learned_of(card) or held_out_of(card)]
        learned = [pair for card in self._cards for pair in learned_of(card)]
        self._held_out = [pair for card in self._cards for pair in held_out_of(card)]
        if not learned or not self._held_out:
            raise TrainingError(
                f"{folder}: expected skills that hold what they learned and what judges them; "
                "aios learn FILE --test FILE makes them"
            )
        self._pairs = QAPairs.of(learned)
        base = Base.of_folder(engine.folder).weights_sha256
        self._own = [card for card in self._cards if card.description.base.weights_sha256 == base]
        if not self._own:
            raise TrainingError(
                f"{engine.folder.name} has no skill of its own; what the versions before it were taught was "
                "consolidated already"
            )

    def run(
        self, tell: Tell = lambda _line: None, is_stopped: Callable[[], bool] = lambda: False
    ) -> Decision:
        """Learn, judge, and use what passes; what was broken off goes on.

        Args:
            tell: is told what `LoRATrainer.train_qa` tells.
            is_stopped: is asked after every step whether to break off.

        Returns:
            "consolidated", with the version's name as that of the skill, or "not consolidated", and why.

        Raises:
            SkillsLockedError: another process is learning.
            TrainingError: it was broken off, or diverged.
        """
        work = self._skills.work
        with self._skills.locked():
            version = self._versions.next(self._model)
            candidate, plain = work / "model", work / "model-plain"
            state = LearningState(work / ".model.learning", self._about)
            self._train(state, plain, version, tell, is_stopped)
            self._quantize(plain, candidate, version)
            with ArrowEngine(candidate, device=self._engine.core.device) as engine:
                gate = ModelGate(self._engine, SkillRouter(self._embed, self._own), self._tolerances)
                verdict = gate.judge(engine, self._held_out)
            if verdict.is_kept:
                copy_model(candidate, self._versions.folder / version, origin={"name": version})
            word = "consolidated" if verdict.is_kept else "not consolidated"
            decision = Decision(version, word, verdict.faults, verdict.figures)
            # Killed behind any of these lines, the next run does the rest of them again.
            DecisionLog(self._skills.folder).append(decision)
            if verdict.is_kept:
                self._versions.add(self._model, version)
            state.remove()
            for folder in (candidate, plain):
                shutil.rmtree(folder)
        return decision

    @property
    def _about(self) -> dict[str, Any]:
        """What is learned on what."""
        return {
            "pairs": self._pairs.digest,
            "held_out": hashlib.sha256(repr(self._held_out).encode()).hexdigest(),
            "epochs": self._epochs,
            "base": Base.of_folder(self._engine.folder).weights_sha256,
            **self._config.to_dict(),
            **self._choice.described,
        }

    def _train(
        self, state: LearningState, plain: Path, version: str, tell: Tell, is_stopped: Callable[[], bool]
    ) -> None:
        engine, tokenizer = self._engine, self._engine.tokenizer
        window = engine.metadata.max_position_embeddings
        batches = QuestionBatches(tokenizer, end_of(engine), window, self._pairs, self._config)
        weights = engine.weights.native
        parameters = {name: weights.dequantize(name) for name in weights.names}
        metadata_json = (engine.folder / "metadata.json").read_text(encoding="utf-8")
        config = replace(self._config, dropout=0.0)
        trainer = self._choice.new_trainer(engine, metadata_json, parameters, config, None, 0)
        run = QuestionLearning(trainer, config, batches, self._epochs, None, self._choice.positions)
        if config.anchor:
            run.anchor = AnchorTexts.of(
                engine.folder,
                self._skills.folder / ".anchor",
                config.seed,
                lambda done, texts: tell({"anchor_texts": done, "of": texts}),
                is_asked=True,
            )
        go_on(run, state, version, tell, is_stopped, self._choice.processes, _SAVED_EVERY_S)
        run.save(state)
        write_plain_model(plain, engine.folder, run.trained(), version)

    def _quantize(self, plain: Path, candidate: Path, version: str) -> None:
        """As the version so far is stored, in 8 bits at least."""
        kind = self._engine.metadata.quantization.get("type")
        kind = "int8" if kind in _TOO_FEW_BITS else kind
        convert_model(plain, candidate, quantize=kind, overwrite=True, name=version)
