"""Skills from questions and answers, on the CPU and without torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import Trainer
from ai_os_diffusion.evolution.anchor import AnchorTexts
from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
from ai_os_diffusion.evolution.gate import Gate
from ai_os_diffusion.evolution.learning.early_stopping import EarlyStopping
from ai_os_diffusion.evolution.learning_state import LearningState, Saved
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.objectives.beginnings import mean_loss, new_factors, rate_of
from ai_os_diffusion.evolution.objectives.masked_batches import MaskedBatches
from ai_os_diffusion.evolution.objectives.skill_trainer import BITS, CONTRASTIVE, SkillTrainer, Tell, go_on
from ai_os_diffusion.evolution.packed import Text
from ai_os_diffusion.evolution.qa_pairs import MOST_EXAMPLES, QAPair, QAPairs
from ai_os_diffusion.evolution.question_batches import QuestionBatches
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.utils.errors import SkillRejectedError, TrainingError
from ai_os_diffusion.utils.files.atomic_file import sync_path
from ai_os_diffusion.utils.logger import get_logger
from ai_os_diffusion.utils.loss_picture import check_picture, draw_losses

__all__ = ["LoRATrainer"]

_log = get_logger(__name__)

_LEAST_LOOKED_AT, _MOST_LOOKED_AT = 16, 40
"""Questions in other words that say when to stop: a tenth of the pairs, as each costs a third of one that is
learned."""

_RECORDED = ("tokens", "loss", "validation_loss")


class LoRATrainer(SkillTrainer):
    """Trains skills: low-rank cards for the next token, for writing by diffusion, or for finding texts.

    Args:
        model: an engine, or the name or folder of a model.
        tokenizer: is the model's own, which is used; accepted because other libraries ask for it.
        config: how; the defaults are what was measured to be best.
        folder: where skills are kept, by default that of the configuration.
        objective: of a decoder "causal", the next token, which is the default; or "diffusion", masked
            answers, on the card with which it writes by diffusion: that stays as it is, and what is learned
            is attached beside it. Of an encoder "contrastive".
        num_threads: of the training; 0 takes the cores there are. The card is the same.

    Attributes:
        anchors: folder of the texts that bases wrote.

    Raises:
        TrainingError: the model does not do that, or is none that can be trained.

    Example:
        >>> trainer = LoRATrainer(engine)  # doctest: +SKIP
        >>> card = trainer.train_qa([{"q": "Who wrote it?", "a": "Ada"}], "authors")  # doctest: +SKIP
        >>> engine.attach(card)  # doctest: +SKIP
    """

    def train_qa(
        self,
        qa_pairs: Iterable[Any],
        name: str,
        *,
        epochs: int = 30,
        held_out: Iterable[Any] = (),
        validation: Iterable[Any] = (),
        gate: Gate | None = None,
        picture: Path | None = None,
        tell: Tell = lambda _line: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Card:
        """Learn answers to questions.

        What was begun by the same call and broken off goes on where it was last saved.

        Args:
            qa_pairs: mappings with `q` and `a`, or `question` and `answer`; or `QAPair`.
            name: of the skill: what it is attached and detached as.
            epochs: how often each pair is asked.
            held_out: pairs in other wordings, which the card is judged by, now and when others are learned.
            validation: pairs in other wordings, which say when to stop (`LoRAConfig.patience`); by default
                some of the pairs with words left out.
            gate: judges the card, which is kept only if it passes, and logs what it decides.
            picture: a file, .svg, .png or .html, for the losses.
            tell: is told after every step `step`, `steps`, `epoch`, `loss`, `anchor`, `tokens`, `seconds`,
                and with patience after an epoch `validation_loss` and `validation_right`; before the first
                learning on a base, as it writes its own, `anchor_texts` and `of`.
            is_stopped: is asked after every step whether to break off.

        Returns:
            The card, a file in `folder`, which `engine.attach` takes.

        Raises:
            TrainingError: the pairs, the name or a setting are not as they have to be; or learning was
                broken off, or diverged.
            CardError: a skill of that name is there.
            SkillRejectedError: the gate does not let it pass; nothing of it is left.
        """
        if self.objective == CONTRASTIVE:
            raise TrainingError(
                f"{self._engine.folder.name} is an encoder and answers nothing; expected a decoder, or "
                "train_pairs"
            )
        pairs = qa_pairs if isinstance(qa_pairs, QAPairs) else QAPairs.of(qa_pairs)
        path = self._path_of(name, epochs)
        if picture is not None:
            check_picture(picture)
        judged_by = list(QAPairs.of(held_out, "held_out")) if gate or held_out else []
        if pairs.repeated:
            _log.warning("%d pairs are there more than once; each is learned once", pairs.repeated)
        if pairs.contradicted:
            _log.warning("%d questions have more than one answer; all are learned", pairs.contradicted)
        looked_at = self._looked_at(pairs, validation)
        run = _Learning(
            self._engine,
            self._metadata_json,
            self._targets,
            self.config,
            self._objective_of(pairs),
            self._beneath,
            epochs,
            self._stopping(looked_at),
            self._num_threads,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._state(name, pairs.digest, epochs, "" if looked_at is None else looked_at.digest)
        if self.config.anchor:
            run.anchor = AnchorTexts.of(
                self._engine.folder,
                self.anchors,
                self.config.seed,
                lambda done, texts: tell({"anchor_texts": done, "of": texts}),
            )
        go_on(run, state, name, tell, is_stopped)
        if picture is not None:
            draw_losses(run.records, picture)
        examples = {
            "examples": pairs.examples(self.config.seed),
            # All or none: whoever learns the skill anew would lose the rest.
            "learned": [[pair.question, pair.answer] for pair in pairs if len(pairs) <= MOST_EXAMPLES],
            "held_out": [[pair.question, pair.answer] for pair in judged_by[:MOST_EXAMPLES]],
        }
        data = (len(pairs), pairs.digest)
        described = self._description(name, data, examples, run.taken, run.recent_loss)
        # Under its own name only once it is kept: whoever lists skills in between sees none.
        draft = path if gate is None else self.folder / f".{name}.candidate"
        card = Card.write(draft, described, run.trained().items(), bits=BITS)
        if gate is not None:
            try:
                self._pass(gate, card, judged_by)
            except SkillRejectedError:
                draft.unlink()
                state.remove()
                raise
            draft.rename(path)
            sync_path(self.folder)
            card = Card(path)
        state.remove()
        return card

    def _objective_of(self, pairs: QAPairs) -> QuestionBatches | MaskedBatches:
        engine = self._engine
        metadata, tokenizer = engine.metadata, engine.tokenizer
        ends = metadata.eos_token_ids or (() if tokenizer.eos_id is None else (tokenizer.eos_id,))
        if not ends:
            raise TrainingError(f"{engine.folder.name} names no token that ends a text")
        end = tokenizer.eos_id if tokenizer.eos_id in ends else ends[0]
        window = metadata.max_position_embeddings
        if self._beneath is None:
            return QuestionBatches(tokenizer, end, window, pairs, self.config)
        settings = engine.diffusion_settings
        return MaskedBatches(tokenizer, settings, end, window, pairs, self.config)

    def _looked_at(self, pairs: QAPairs, validation: Iterable[Any]) -> QAPairs | None:
        """Wordings that say when to stop."""
        given = tuple(validation)
        if not self.config.patience:
            if given:
                raise TrainingError("validation says when to stop: expected a patience above 0, got 0")
            return None
        most = min(_MOST_LOOKED_AT, max(_LEAST_LOOKED_AT, len(pairs) // 10))
        return QAPairs.of(given or pairs.in_other_words(most, self.config.seed), "validation")

    def _stopping(self, looked_at: QAPairs | None) -> EarlyStopping | None:
        if looked_at is None:
            return None
        return EarlyStopping(self._objective_of(looked_at).looked_at(), self.config.patience)

    def _pass(self, gate: Gate, card: Card, held_out: list[QAPair]) -> None:
        verdict = gate.judge(card, held_out)
        decision = "kept" if verdict.is_kept else "rejected"
        DecisionLog(self.folder).append(Decision(card.name, decision, verdict.faults, verdict.figures))
        if not verdict.is_kept:
            raise SkillRejectedError(f"{card.name}: {'; '.join(verdict.faults)}")


class _Learning:
    """A training from its first step to its last."""

    anchor: AnchorTexts | None = None

    def __init__(
        self,
        engine: ArrowEngine,
        metadata_json: str,
        targets: list[Any],
        config: LoRAConfig,
        batches: QuestionBatches | MaskedBatches,
        beneath: Card | None,
        epochs: int,
        stopping: EarlyStopping | None,
        num_threads: int,
    ) -> None:
        self._batches, self._config, self._stopping = batches, config, stopping
        self.steps = epochs * self._batches.per_epoch
        self._trainer = Trainer(
            engine.weights.native,
            metadata_json,
            new_factors(targets, config),
            scaling=config.scaling,
            dropout=config.dropout,
            num_threads=num_threads,
            brain_floats=config.precision == "bfloat16",
            beneath=None
            if beneath is None
            else (beneath.native, beneath.description.scaling, beneath.description.row_ids),
        )
        self._base: dict[int, NDArray[np.float32]] = {}
        self.records: list[dict[str, Any]] = []
        self._begun = time.monotonic()

    @property
    def is_done(self) -> bool:
        reached = self._stopping is not None and self._stopping.is_reached
        return reached or self._trainer.steps >= self.steps

    @property
    def taken(self) -> int:
        """Steps that were taken."""
        return self._trainer.steps

    @property
    def recent_loss(self) -> float:
        """Of the questions of the last epoch."""
        return mean_loss(self.records, self._batches.per_epoch)

    def take_up(self, state: LearningState) -> None:
        found = state.load()
        if found is not None:
            self._trainer.restore(found.steps, dict(found.parameters))
            self.records = found.records
            if self._stopping is not None and found.looks:
                self._stopping.restore(found.looks)

    def save(self, state: LearningState) -> None:
        looks = {} if self._stopping is None else self._stopping.state()
        state.save(Saved(self._trainer.steps, self._trainer.state(), self.records, looks))

    def trained(self) -> Mapping[str, NDArray[np.float32]]:
        """The factors: the best where that was looked for, else the last."""
        return (self._stopping.best if self._stopping else {}) or self._trainer.parameters()

    def step(self) -> dict[str, Any]:
        """Take a step; what it tells."""
        number = self._trainer.steps
        parts = list(self._batches.parts(number))
        counted = sum(float(part.weights.sum()) for part in parts)
        loss, row = 0.0, 0
        for part in parts:
            weights = part.weights / np.float32(counted)
            loss += self._trainer.accumulate(
                part.batch, weights, labels=part.labels, first_row=row, seed=number
            )
            row += len(part)
        divergence = 0.0 if self.anchor is None else self._anchored(self.anchor[number], number, row)
        self._trainer.step(rate_of(self._config, number, self.steps))
        tokens = row + (self.records[-1]["tokens"] if self.records else 0)
        told = {
            "step": number + 1,
            "steps": self.steps,
            "epoch": number // self._batches.per_epoch + 1,
            "loss": loss,
            "anchor": divergence,
            "tokens": tokens,
            "seconds": time.monotonic() - self._begun,
        }
        if self._stopping is not None and (number + 1) % self._batches.per_epoch == 0:
            told |= self._stopping.look(self._trainer)
        self.records.append({key: told[key] for key in _RECORDED if key in told})
        return told

    def _anchored(self, texts: Mapping[int, Text], number: int, row: int) -> float:
        """Add up what draws the card back to the base; the mean divergence."""
        for index in texts.keys() - self._base.keys():
            alone, compared = self._batches.anchored({index: texts[index]})
            self._base[index] = self._trainer.base_states(alone.batch, compared)
        packed, compared = self._batches.anchored(texts)
        states = np.concatenate([self._base[index] for index in texts])
        weights = np.zeros(len(packed), np.float32)
        weights[compared] = self._config.anchor / len(compared)
        found = self._trainer.accumulate(packed.batch, weights, base=states, first_row=row, seed=number)
        return found / self._config.anchor
