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
from ai_os_diffusion.evolution.learning_state import LearningState
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.objectives.masked_batches import MaskedBatches
from ai_os_diffusion.evolution.packed import Text
from ai_os_diffusion.evolution.qa_pairs import MOST_EXAMPLES, QAPair, QAPairs
from ai_os_diffusion.evolution.question_batches import QuestionBatches
from ai_os_diffusion.evolution.skills import skill_path
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.cards.card import A, B
from ai_os_diffusion.models.cards.description import DIFFUSION
from ai_os_diffusion.utils.errors import CardError, SkillRejectedError, TrainingError
from ai_os_diffusion.utils.files.atomic_file import sync_path
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["LoRATrainer"]

_log = get_logger(__name__)

Tell = Callable[[dict[str, Any]], object]

_SAVED_EVERY_S = 30.0
_LEAST_RATE = 0.02
"""Part of the rate that is left at the end."""

_BITS, _KIND = 8, "skill"

_OBJECTIVES = ("causal", DIFFUSION)


class LoRATrainer:
    """Trains skills: low-rank cards for the next token, or for writing by diffusion.

    Args:
        model: an engine, or the name or folder of a model.
        tokenizer: is the model's own, which is used; accepted because other libraries ask for it.
        config: how; the defaults are what was measured to be best.
        folder: where skills are kept, by default that of the configuration.
        objective: "causal", the next token; or "diffusion", masked answers, on the card with which the model
            writes by diffusion: it stays as it is, and what is learned is attached beside it.

    Raises:
        TrainingError: the model writes no text, or not in that way, or is none that can be trained.

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
        objective: str = "causal",
    ) -> None:
        self._engine = model if isinstance(model, ArrowEngine) else ArrowEngine(model)
        metadata = self._engine.metadata
        if not metadata.is_decoder:
            raise TrainingError(
                f"{self._engine.folder.name} is an encoder and answers nothing; expected a decoder"
            )
        if objective not in _OBJECTIVES:
            raise TrainingError(f"objective is {objective!r}, expected {' or '.join(map(repr, _OBJECTIVES))}")
        self.objective = objective
        self._beneath = _card_of_diffusion(self._engine) if objective == DIFFUSION else None
        if tokenizer is not None and tokenizer is not self._engine.tokenizer:
            own = getattr(tokenizer, "vocab_size", None)
            if own is not None and own != self._engine.tokenizer.vocab_size:
                raise TrainingError(
                    f"the tokenizer has {own} tokens, that of the model {self._engine.tokenizer.vocab_size}"
                )
        self.config = config or LoRAConfig()
        self.folder = Path(folder) if folder is not None else load_config().skills_dir
        self._metadata_json = (self._engine.folder / "metadata.json").read_text(encoding="utf-8")
        self._targets = self.config.targets(json.loads(layout_json(self._metadata_json)))

    def train_qa(
        self,
        qa_pairs: Iterable[Any],
        name: str,
        *,
        epochs: int = 30,
        held_out: Iterable[Any] = (),
        gate: Gate | None = None,
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
            gate: judges the card, which is kept only if it passes, and logs what it decides.
            tell: is told after every step `step`, `steps`, `epoch`, `loss`, `anchor`, `tokens`, `seconds`;
                before the first learning on a base, as it writes its own, `anchor_texts` and `of`.
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
        judged_by = list(QAPairs.of(held_out, "held_out")) if gate or held_out else []
        if pairs.repeated:
            _log.warning("%d pairs are there more than once; each is learned once", pairs.repeated)
        if pairs.contradicted:
            _log.warning("%d questions have more than one answer; all are learned", pairs.contradicted)
        run = _Learning(
            self._engine,
            self._metadata_json,
            self._targets,
            self.config,
            self._objective_of(pairs),
            self._beneath,
            epochs,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {
            "name": name,
            "pairs": pairs.digest,
            "epochs": epochs,
            "base": Base.of_folder(self._engine.folder).weights_sha256,
            **self.config.to_dict(),
            "objective": self.objective,
            **self._learned_on,
        }
        state = LearningState(self.folder / f".{name}.learning", about)
        if self.config.anchor:
            run.anchor = AnchorTexts.of(
                self._engine.folder,
                self.folder / ".anchor",
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

    @property
    def _learned_on(self) -> dict[str, Any]:
        """The card that the new one is attached beside, as it names it."""
        card = self._beneath
        return {} if card is None else {"learned_on": {"name": card.name, "sha256": card.sha256}}

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
                "objective": self.objective,
                **self._learned_on,
                **self.config.to_dict(),
                "examples": pairs.examples(self.config.seed),
                "held_out": [[pair.question, pair.answer] for pair in held_out[:MOST_EXAMPLES]],
            },
            metrics={"pairs": len(pairs), "steps": run.steps, "loss": run.recent_loss},
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
        batches: QuestionBatches | MaskedBatches,
        beneath: Card | None,
        epochs: int,
    ) -> None:
        self._batches, self._config = batches, config
        self.steps = epochs * self._batches.per_epoch
        self._trainer = Trainer(
            engine.weights.native,
            metadata_json,
            _begun(targets, config),
            scaling=config.scaling,
            dropout=config.dropout,
            brain_floats=config.precision == "bfloat16",
            beneath=None
            if beneath is None
            else (beneath.native, beneath.description.scaling, beneath.description.row_ids),
        )
        self._base: dict[int, NDArray[np.float32]] = {}
        self._losses: list[float] = []
        self._begun = time.monotonic()
        self._tokens = 0

    @property
    def is_done(self) -> bool:
        return self._trainer.steps >= self.steps

    @property
    def recent_loss(self) -> float:
        """Of the questions of the last epoch."""
        recent = self._losses[-self._batches.per_epoch :]
        return round(sum(recent) / max(len(recent), 1), 5)

    def take_up(self, state: LearningState) -> None:
        found = state.load()
        if found is not None:
            steps, parameters, self._losses = found
            self._trainer.restore(steps, parameters)

    def save(self, state: LearningState) -> None:
        state.save(self._trainer.steps, self._trainer.state(), self._losses)

    def trained(self) -> dict[str, NDArray[np.float32]]:
        return self._trainer.parameters()

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
        self._trainer.step(self._rate(number))
        self._losses.append(loss)
        self._tokens += row
        return {
            "step": number + 1,
            "steps": self.steps,
            "epoch": number // self._batches.per_epoch + 1,
            "loss": loss,
            "anchor": divergence,
            "tokens": self._tokens,
            "seconds": time.monotonic() - self._begun,
        }

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

    def _rate(self, number: int) -> float:
        """Up along a line, then down along a cosine."""
        warm = min(1.0, (number + 1) / self._config.warm_up) if self._config.warm_up else 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * number / self.steps))
        return self._config.rate * warm * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


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
