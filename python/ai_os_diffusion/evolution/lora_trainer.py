"""Skills from questions and answers, on the CPU and without torch."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import Trainer, layout_json
from ai_os_diffusion.config import load_config
from ai_os_diffusion.evolution.anchor import AnchorTexts
from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
from ai_os_diffusion.evolution.gate import Gate
from ai_os_diffusion.evolution.learning.early_stopping import EarlyStopping
from ai_os_diffusion.evolution.learning_state import LearningState, Saved
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.packed import Packed, Text
from ai_os_diffusion.evolution.qa_pairs import MOST_EXAMPLES, QAPair, QAPairs
from ai_os_diffusion.evolution.question_batches import QuestionBatches, in_parts
from ai_os_diffusion.evolution.skills import skill_path
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.cards.card import A, B
from ai_os_diffusion.utils.errors import CardError, SkillRejectedError, TrainingError
from ai_os_diffusion.utils.files.atomic_file import sync_path
from ai_os_diffusion.utils.logger import get_logger
from ai_os_diffusion.utils.loss_picture import check_picture, draw_losses

__all__ = ["LoRATrainer"]

_log = get_logger(__name__)

Tell = Callable[[dict[str, Any]], object]

_SAVED_EVERY_S = 30.0
_LEAST_LOOKED_AT, _MOST_LOOKED_AT = 16, 40
"""Questions in other words that say when to stop: a tenth of the pairs, as each costs a third of one that is
learned."""

_LEAST_RATE = 0.02
"""Part of the rate that is left at the end."""

_RECORDED = ("tokens", "loss", "validation_loss")

_BITS, _KIND = 8, "skill"


class LoRATrainer:
    """Trains skills: low-rank cards for the next token.

    Args:
        model: an engine, or the name or folder of a model.
        tokenizer: is the model's own, which is used; accepted because other libraries ask for it.
        config: how; the defaults are what was measured to be best.
        folder: where skills are kept, by default that of the configuration.
        num_threads: of the training; 0 takes the cores there are. The card is the same.

    Attributes:
        anchors: folder of the texts that bases wrote.

    Raises:
        TrainingError: the model writes no text, or is none that can be trained.

    Example:
        >>> trainer = LoRATrainer(engine)  # doctest: +SKIP
        >>> card = trainer.train_qa([{"q": "Who wrote it?", "a": "Ada"}], "authors")  # doctest: +SKIP
        >>> engine.attach(card)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: ArrowEngine | str | Path,
        tokenizer: Any = None,
        config: LoRAConfig | None = None,
        *,
        folder: str | Path | None = None,
        num_threads: int = 0,
    ) -> None:
        self._engine = model if isinstance(model, ArrowEngine) else ArrowEngine(model)
        metadata = self._engine.metadata
        if not metadata.is_decoder:
            raise TrainingError(
                f"{self._engine.folder.name} is an encoder and answers nothing; expected a decoder"
            )
        if tokenizer is not None and tokenizer is not self._engine.tokenizer:
            own = getattr(tokenizer, "vocab_size", None)
            if own is not None and own != self._engine.tokenizer.vocab_size:
                raise TrainingError(
                    f"the tokenizer has {own} tokens, that of the model {self._engine.tokenizer.vocab_size}"
                )
        self.config = config or LoRAConfig()
        self.folder = Path(folder) if folder is not None else load_config().skills_dir
        self.anchors = self.folder / ".anchor"
        self._num_threads = num_threads
        self._metadata_json = (self._engine.folder / "metadata.json").read_text(encoding="utf-8")
        self._targets = self.config.targets(json.loads(layout_json(self._metadata_json)))

    @property
    def parameters(self) -> int:
        """Numbers that a skill trains."""
        return sum(self.config.rank * (layer["inputs"] + layer["outputs"]) for layer in self._targets)

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
        pairs = qa_pairs if isinstance(qa_pairs, QAPairs) else QAPairs.of(qa_pairs)
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise TrainingError(f"epochs is {epochs!r}, expected 1 or more")
        path = skill_path(name, self.folder)
        if path is None:
            raise TrainingError(f"{name!r} is no name of a skill; expected letters, digits, '-', '_' and '.'")
        if path.exists():
            raise CardError(f"{path}: a skill of that name is there; remove it, or give another name")
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
            pairs,
            epochs,
            looked_at,
            self._num_threads,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {
            "name": name,
            "pairs": pairs.digest,
            "validation": None if looked_at is None else looked_at.digest,
            "epochs": epochs,
            "base": Base.of_folder(self._engine.folder).weights_sha256,
            **self.config.to_dict(),
        }
        state = LearningState(self.folder / f".{name}.learning", about)
        if self.config.anchor:
            run.anchor = AnchorTexts.of(
                self._engine.folder,
                self.anchors,
                self.config.seed,
                lambda done, texts: tell({"anchor_texts": done, "of": texts}),
            )
        run.take_up(state)
        saved = time.monotonic()
        while not run.is_done:
            tell(run.step())
            if is_stopped():
                run.save(state)
                raise TrainingError(f"learning {name!r} was broken off; the same call goes on with it")
            if time.monotonic() - saved > _SAVED_EVERY_S:
                run.save(state)
                saved = time.monotonic()
        if picture is not None:
            draw_losses(run.records, picture)
        described = self._description(name, pairs, judged_by, run)
        # Under its own name only once it is kept: whoever lists skills in between sees none.
        draft = path if gate is None else self.folder / f".{name}.candidate"
        card = Card.write(draft, described, run.trained().items(), bits=_BITS)
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

    def _looked_at(self, pairs: QAPairs, validation: Iterable[Any]) -> QAPairs | None:
        """Wordings that say when to stop."""
        given = tuple(validation)
        if not self.config.patience:
            if given:
                raise TrainingError("validation says when to stop: expected a patience above 0, got 0")
            return None
        most = min(_MOST_LOOKED_AT, max(_LEAST_LOOKED_AT, len(pairs) // 10))
        return QAPairs.of(given or pairs.in_other_words(most, self.config.seed), "validation")

    def _pass(self, gate: Gate, card: Card, held_out: list[QAPair]) -> None:
        verdict = gate.judge(card, held_out)
        decision = "kept" if verdict.is_kept else "rejected"
        DecisionLog(self.folder).append(Decision(card.name, decision, verdict.faults, verdict.figures))
        if not verdict.is_kept:
            raise SkillRejectedError(f"{card.name}: {'; '.join(verdict.faults)}")

    def _description(
        self, name: str, pairs: QAPairs, held_out: list[QAPair], run: _Learning
    ) -> CardDescription:
        return CardDescription(
            name=name,
            kind=_KIND,
            base=Base.of_folder(self._engine.folder),
            rank=self.config.rank,
            scaling=self.config.scaling,
            config={
                "objective": "causal",
                **self.config.to_dict(),
                "examples": pairs.examples(self.config.seed),
                # All or none: whoever learns the skill anew would lose the rest.
                "learned": [[pair.question, pair.answer] for pair in pairs if len(pairs) <= MOST_EXAMPLES],
                "held_out": [[pair.question, pair.answer] for pair in held_out[:MOST_EXAMPLES]],
            },
            metrics={"pairs": len(pairs), "steps": run.taken, "loss": run.recent_loss},
            data_sha256=pairs.digest,
            created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )


class _Learning:
    """A training from its first step to its last."""

    anchor: AnchorTexts | None = None

    def __init__(
        self,
        engine: ArrowEngine,
        metadata_json: str,
        targets: list[Any],
        config: LoRAConfig,
        pairs: QAPairs,
        epochs: int,
        validation: QAPairs | None,
        num_threads: int = 0,
    ) -> None:
        metadata, tokenizer = engine.metadata, engine.tokenizer
        ends = metadata.eos_token_ids or (() if tokenizer.eos_id is None else (tokenizer.eos_id,))
        if not ends:
            raise TrainingError(f"{engine.folder.name} names no token that ends a text")
        end = tokenizer.eos_id if tokenizer.eos_id in ends else ends[0]
        window = metadata.max_position_embeddings
        self._batches = QuestionBatches(tokenizer, end, window, pairs, config)
        self._config = config
        self._stopping: EarlyStopping | None = None
        if validation is not None:
            asked = QuestionBatches(tokenizer, end, window, validation, config)
            texts = [asked.text(pair.question, pair) for pair in validation]
            self._stopping = EarlyStopping(in_parts(texts), config.patience)
        self.steps = epochs * self._batches.per_epoch
        self._trainer = Trainer(
            engine.weights.native,
            metadata_json,
            _begun(targets, config),
            scaling=config.scaling,
            dropout=config.dropout,
            num_threads=num_threads,
            brain_floats=config.precision == "bfloat16",
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
        recent: list[float] = [record["loss"] for record in self.records[-self._batches.per_epoch :]]
        return round(sum(recent) / max(len(recent), 1), 5)

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
        parts = list(in_parts(self._batches[number]))
        counted = sum(float(part.weights.sum()) for part in parts)
        loss, row = 0.0, 0
        for part in parts:
            weights = part.weights / np.float32(counted)
            loss += self._trainer.accumulate(
                part.batch, weights, labels=part.labels, first_row=row, seed=number
            )
            row += len(part)
        divergence = 0.0 if self.anchor is None else self._anchored(self.anchor[number], number, row)
        self._trainer.step(self._rate(number))
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
            alone = Packed.of([texts[index]])
            self._base[index] = self._trainer.base_states(alone.batch, AnchorTexts.compared(alone))
        packed = Packed.of(list(texts.values()))
        compared = AnchorTexts.compared(packed)
        states = np.concatenate([self._base[index] for index in texts])
        weights = np.zeros(len(packed), np.float32)
        weights[compared] = self._config.anchor / len(compared)
        found = self._trainer.accumulate(packed.batch, weights, base=states, first_row=row, seed=number)
        return found / self._config.anchor

    def _rate(self, number: int) -> float:
        """Up along a line, then down along a cosine."""
        warm = min(1.0, (number + 1) / self._config.warm_up) if self._config.warm_up else 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * number / self.steps))
        return self._config.rate * warm * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


def _begun(targets: list[Any], config: LoRAConfig) -> dict[str, NDArray[np.float32]]:
    """Factors that change nothing yet: the first random, the second zero."""
    rng = np.random.default_rng(config.seed)
    found: dict[str, NDArray[np.float32]] = {}
    for layer in targets:
        inputs, outputs = layer["inputs"], layer["outputs"]
        a = rng.standard_normal((config.rank, inputs), np.float32) / np.float32(math.sqrt(inputs))
        found[layer["name"] + A] = a
        found[layer["name"] + B] = np.zeros((outputs, config.rank), np.float32)
    return found
