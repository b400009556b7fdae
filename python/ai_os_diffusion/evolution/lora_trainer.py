"""Skills and controls from questions and answers; by default on the CPU and without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution.anchor import AnchorTexts
from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog
from ai_os_diffusion.evolution.judging.gate import Gate
from ai_os_diffusion.evolution.learning.control_config import ControlConfig
from ai_os_diffusion.evolution.learning.early_stopping import EarlyStopping
from ai_os_diffusion.evolution.learning.question_learning import QuestionLearning
from ai_os_diffusion.evolution.learning.sensitive_layers import layer_sensitivities, most_sensitive
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.evolution.objectives.masked_batches import MaskedBatches
from ai_os_diffusion.evolution.objectives.skill_trainer import CONTRASTIVE, SkillTrainer, Tell
from ai_os_diffusion.evolution.paraphrases import nearest_to_their_own, paraphrases_of
from ai_os_diffusion.evolution.qa_pairs import MOST_EXAMPLES, QAPair, QAPairs
from ai_os_diffusion.evolution.question_batches import QuestionBatches, end_of
from ai_os_diffusion.evolution.skill_router import Embed
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

_MOST_SAMPLES, _PROBED_RANK = 32, 16
"""Answers that say which layers are trained, and of the factors that measure it."""


class LoRATrainer(SkillTrainer):
    """Trains skills: low-rank cards for the next token, for writing by diffusion, or for finding texts.

    Args:
        model: an engine, or the name or folder of a model.
        tokenizer: is the model's own, which is used; accepted because other libraries ask for it.
        config: how; the defaults are what was measured to be best. A `ControlConfig` trains a control, a card
            that lends the structure of the answers to whatever is asked: it is attached by its name, no
            question is routed to it.
        folder: where skills are kept, by default that of the configuration.
        objective: of a decoder "causal", the next token, which is the default; or "diffusion", masked
            answers, on the card with which it writes by diffusion: that stays as it is, and what is learned
            is attached beside it. Of an encoder "contrastive".
        num_threads: of the training; 0 takes the cores there are. The card is the same.
        trainer: "native", the default on a CPU, which needs no torch; or "torch", which is the reference and
            the one for GPUs (`pip install 'ai-os-diffusion[train]'`). Cards differ in rounding.
        device: where it computes: "cpu", "cuda", or "auto", a GPU where torch sees one. The engine stays
            where it is.

    Attributes:
        anchors: folder of the texts that bases wrote.
        paraphrases: folder of the other wordings of questions that bases wrote.
        processes: those that learn together, where `torchrun` began several: each makes the same calls, and
            the first writes, tells, and has the gate judge.

    Raises:
        TrainingError: the model does not do that, or is none that can be trained; or torch is missing.
        DeviceError: there is no such GPU.

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
        embed: Embed | None = None,
        gate: Gate | None = None,
        picture: Path | None = None,
        tell: Tell = lambda _line: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Card:
        """Learn answers to questions.

        What was begun by the same call and broken off goes on where it was last saved.

        Args:
            qa_pairs: mappings with `q` and `a`, or `question` and `answer`, and maybe `passage`; or `QAPair`.
            name: of the skill: what it is attached and detached as.
            epochs: how often each pair is asked.
            held_out: pairs in other wordings, which the card is judged by, now and when others are learned.
            validation: pairs in other wordings, which say when to stop (`LoRAConfig.patience`); by default
                some of the pairs with words left out.
            embed: unit vectors of questions, as for `Gate`; checks paraphrases (`LoRAConfig.paraphrases`) and
                is needed for them alone.
            gate: judges the card, which is kept only if it passes, and logs what it decides.
            picture: a file, .svg, .png or .html, for the losses.
            tell: is told after every step `step`, `steps`, `epoch`, `loss`, `anchor`, `tokens`, `seconds`,
                and with patience after an epoch `validation_loss` and `validation_right`; before the first
                learning on a base, as it writes its own, `anchor_texts` and `of`; as it writes other wordings
                of questions, `paraphrased` and `of`.
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
        asked = self._paraphrased(pairs, embed, tell, is_stopped)
        run = QuestionLearning(
            self._new_trainer(self._selected(pairs)),
            self.config,
            self._objective_of(asked),
            epochs,
            self._stopping(looked_at),
            self._choice.positions,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self._state(name, asked.digest, epochs, "" if looked_at is None else looked_at.digest)
        if self.config.anchor:
            with self.processes.first_ahead():
                run.anchor = AnchorTexts.of(
                    self._engine.folder,
                    self.anchors,
                    self.config.seed,
                    lambda done, texts: tell({"anchor_texts": done, "of": texts}),
                    # A card that writes by diffusion only answers.
                    is_asked=self._beneath is not None,
                )
        self._go_on(run, state, name, epochs, tell, is_stopped)
        examples = {}
        # A control knows nothing that could be routed to it, asked of it or learned anew.
        if isinstance(self.config, LoRAConfig):
            examples = {
                "examples": pairs.examples(self.config.seed),
                # All or none: whoever learns the skill anew would lose the rest.
                "learned": [[pair.question, pair.answer] for pair in pairs if len(pairs) <= MOST_EXAMPLES],
                "held_out": [[pair.question, pair.answer] for pair in judged_by[:MOST_EXAMPLES]],
            }
        data = (len(pairs), pairs.digest)
        described = self._description(name, data, examples, run.taken, run.recent_loss)
        with self.processes.first_ahead():
            if not self.processes.is_first:
                if not path.exists():
                    raise SkillRejectedError(f"{name}: not kept, as the first process says")
                return Card(path)
            if picture is not None:
                draw_losses(run.records, picture)
            # Under its own name only once it is kept: whoever lists skills in between sees none.
            draft = path if gate is None else self.folder / f".{name}.candidate"
            card = self._write(draft, described, run)
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
        end = end_of(engine)
        window = metadata.max_position_embeddings
        if self._beneath is None:
            return QuestionBatches(tokenizer, end, window, pairs, self.config)
        settings = engine.diffusion_settings
        return MaskedBatches(tokenizer, settings, end, window, pairs, self.config)

    def _selected(self, pairs: QAPairs) -> list[Mapping[str, Any]]:
        """The layers that get factors, or the blocks that get side blocks."""
        if isinstance(self.config, ControlConfig) or self.config.selected == 1:
            return self._targets
        given = list(pairs)
        most = min(_MOST_SAMPLES, len(given))
        samples = [QAPairs.of([given[len(given) * at // most]]) for at in range(most)]
        config = replace(self.config, rank=min(self.config.rank, _PROBED_RANK), dropout=0.0, use_dora=False)
        found = layer_sensitivities(
            self._new_trainer(self._targets, config),
            (self._objective_of(one).looked_at() for one in samples),
            self._targets,
        )
        return most_sensitive(self._targets, found, self.config.selected)

    def _paraphrased(
        self, pairs: QAPairs, embed: Embed | None, tell: Tell, is_stopped: Callable[[], bool]
    ) -> QAPairs:
        """The pairs with other wordings that the base writes, where the configuration asks for them."""
        most = self.config.paraphrases
        if not most:
            return pairs
        if embed is None:
            raise TrainingError(
                f"paraphrases is {most} and there is no embed, which checks them; expected that of an "
                "encoder, as ArrowEngine('minilm').encode"
            )
        # What cannot be learned is told before anything is written.
        self._objective_of(pairs)
        with self.processes.first_ahead():
            written = paraphrases_of(
                self._engine.folder,
                self.paraphrases,
                pairs.pairs,
                lambda done, of: tell({"paraphrased": done, "of": of}),
                is_stopped,
            )
        near = nearest_to_their_own(written, embed)
        wordings = {
            pair: tuple(text for text in texts if self._fits(replace(pair, question=text)))[:most]
            for pair, texts in near.items()
        }
        return replace(pairs, wordings={pair: texts for pair, texts in wordings.items() if texts})

    def _fits(self, pair: QAPair) -> bool:
        try:
            self._objective_of(QAPairs((pair,)))
        except TrainingError:
            return False
        return True

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
