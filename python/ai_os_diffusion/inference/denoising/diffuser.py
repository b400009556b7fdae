"""Prompts, gaps and templates to text by diffusion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.contracts import Message
from ai_os_diffusion.diffusion import DiffusionCore, DiffusionRequest, UncertaintyEstimator, Written
from ai_os_diffusion.inference.attached_cards import CardsInUse
from ai_os_diffusion.inference.constraints.constrained_denoiser import constrained
from ai_os_diffusion.inference.denoising.answer_evidence import answer_evidence
from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan
from ai_os_diffusion.inference.denoising.diffusion_options import DiffusionOptions
from ai_os_diffusion.inference.denoising.diffusion_text import (
    Diffusion,
    DiffusionStep,
    DiffusionStream,
    DiffusionTimings,
    Fill,
    TokenAlternative,
)
from ai_os_diffusion.inference.denoising.forms.slot_tokens import SlotTokens
from ai_os_diffusion.inference.denoising.forms.template import Template
from ai_os_diffusion.inference.denoising.forms.template_plan import template_plan
from ai_os_diffusion.inference.denoising.gap_lengths import with_gap_lengths
from ai_os_diffusion.inference.denoising.infill_plan import infill_plan
from ai_os_diffusion.inference.denoising.progress import Progress
from ai_os_diffusion.inference.denoising.session_denoiser import SessionDenoiser
from ai_os_diffusion.inference.denoising.spans import span_candidates
from ai_os_diffusion.inference.denoising.turn import text_ids, turn_ids
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.generation.generation_stream import Usage
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Diffuser"]

Ids = NDArray[np.int32]
Context = str | Sequence[str]

_ASKED = "Fill in the template."


class Diffuser:
    """What `ArrowEngine.diffuse` does.

    Args:
        core: the forward pass.
        cards: what its passes use.
        tokenizer: the model's.
        settings: how the model writes by diffusion.
        end_ids: tokens that end the model's texts.

    Attributes:
        settings: as given.
        end_ids: tokens that end a text.
    """

    def __init__(
        self,
        core: InferenceCore,
        cards: CardsInUse[Any],
        tokenizer: FastTokenizer,
        settings: DiffusionSettings,
        end_ids: frozenset[int],
    ) -> None:
        self._core, self._cards, self._tokenizer, self.settings = core, cards, tokenizer, settings
        self.end_ids = frozenset(settings.end_ids) or end_ids
        self._estimator = UncertaintyEstimator.of(settings.uncertainty)
        self._fill_estimator = UncertaintyEstimator.of(settings.fill_uncertainty)

    def plan(
        self,
        prompt: str | Sequence[Message] | None,
        context: Context | None,
        infill: str | None,
        template: Mapping[str, Any] | None,
        max_fill: int | None,
        options: DiffusionOptions,
    ) -> CanvasPlan:
        """Lay out what a call asks for.

        Raises:
            SamplingError: it asks for nothing, or for what contradicts itself.
        """
        if infill is not None and template is not None:
            raise SamplingError("infill and template are two canvases; give one of them")
        if max_fill is not None and infill is None and template is None:
            raise SamplingError("max_fill belongs to infill and template: it is the room of a gap")
        if (infill is not None or template is not None) and options.max_tokens is not None:
            raise SamplingError("max_tokens is for a text without gaps; max_fill is the room of a gap")
        if options.min_fill and infill is None:
            raise SamplingError("min_fill belongs to infill: it is the least that a gap holds")
        if options.max_uncertainty is not None and (template is None or self._fill_estimator is None):
            raise SamplingError(
                "max_uncertainty belongs to a template, and to a model that has a calibration for its values"
            )
        if infill is not None:
            plan = self._infill(prompt, context, infill, max_fill, options.min_fill)
        elif template is not None:
            plan = self._template(prompt, context, Template(template), max_fill)
        else:
            plan = self._text(prompt, context, options)
        if context is not None and plan.stops:
            plan = replace(plan, context=context if isinstance(context, str) else "\n".join(context))
        if options.extractive:
            plan = self._held_to_spans(plan, context, infill, template, options)
        if options.guidance_scale == 1 or not len(plan.prompt):
            return plan
        # What a text is without what it was told: its prompt without the context, or masked.
        unguided = np.full_like(plan.prompt, self.settings.mask_id)
        keeps_prompt = self.settings.attention in ("prefix", "causal")
        if context is not None and keeps_prompt and isinstance(prompt, str):
            unguided = self._prompt(prompt, "")
        return replace(plan, unguided=unguided)

    def write(self, plan: CanvasPlan, options: DiffusionOptions) -> Diffusion:
        """Write a text."""
        stream = self.stream(plan, options)
        for _ in stream:
            pass
        return stream.diffusion

    def stream(self, plan: CanvasPlan, options: DiffusionOptions) -> DiffusionStream:
        """Write a text pass by pass."""
        progress = Progress(plan, options.own_seed)
        return DiffusionStream(self._steps(progress, options), lambda: self._result(progress, options))

    def _request(self, plan: CanvasPlan, options: DiffusionOptions, seed: int) -> DiffusionRequest:
        return DiffusionRequest(
            plan.prompt,
            plan.blocks,
            options.sampler_of(self.settings, plan.blocks, by_token=plan.by_token),
            temperature=options.temperature,
            seed=seed,
            top_k=options.told,
            stops=plan.stops,
            allowed=plan.allowed,
            unguided=plan.unguided,
            candidates=plan.candidates,
        )

    def _steps(self, progress: Progress, options: DiffusionOptions) -> Iterator[DiffusionStep]:
        yield from self._passes(progress, options)
        if progress.plan.fallback is not None and not progress.plan.is_valid(self._fills(progress)):
            progress.plan, progress.written = progress.plan.fallback, Written()
            yield from self._passes(progress, options)

    def _passes(self, progress: Progress, options: DiffusionOptions) -> Iterator[DiffusionStep]:
        plan = progress.plan
        denoiser = SessionDenoiser(
            self._core,
            self._cards,
            self.settings,
            self.end_ids,
            guidance_scale=options.guidance_scale,
            forbidden=() if plan.stops else sorted(self.end_ids),
            filters=options.filters,
        )
        request = self._request(plan, options, progress.seed)
        if plan.measures and options.num_steps != 1:
            plan = progress.plan = with_gap_lengths(
                denoiser, plan, self._core.config.vocab_size, self.settings.null_odds
            )
            progress.measured += 1
            left = int((plan.blocks[0] == self.settings.mask_id).sum())
            request = self._request(plan, options.behind_pass(left), progress.seed)
        starts = np.cumsum([0, *map(len, plan.blocks)])
        canvas = self._shown(np.concatenate(plan.blocks))
        held = constrained(denoiser, self._tokenizer, options.drawing, stops=plan.stops)
        for step in DiffusionCore(held).stream(request, progress.written):
            start = int(starts[step.block])
            canvas[start : start + len(step.canvas)] = self._shown(step.canvas)
            yield DiffusionStep(
                step.number,
                step.rows + start,
                self._shown(step.ids),
                step.ids,
                step.confidence,
                step.entropy,
                list(canvas),
            )

    def _rows(self, progress: Progress) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each gap its rows that are text, and those that were written for it, the end token too."""
        ids = progress.joined("ids")
        is_text = ~progress.joined("is_open") & (ids != self.settings.null_id)
        is_end = np.isin(ids, list(self.end_ids))
        # Nothing follows nothing: what was written behind it at the same time is of another value.
        is_over = ~progress.joined("is_open") & (ids == self.settings.null_id)
        found = []
        for begin, end in progress.plan.gaps:
            rows = np.arange(begin, min(end, len(ids)))
            ends = np.flatnonzero(is_end[rows]) if progress.plan.stops else rows[:0]
            stop = int(ends[0]) if len(ends) else len(rows)
            text, written = rows[:stop], rows[: stop + 1]
            text = text[~np.logical_or.accumulate(is_over[text])]
            found.append((text[is_text[text]], written[~progress.joined("is_open")[written]]))
        return found

    def _fills(self, progress: Progress) -> list[str]:
        ids = progress.joined("ids")
        return [self._tokenizer.decode(ids[rows]) for rows, _ in self._rows(progress)]

    def _result(self, progress: Progress, options: DiffusionOptions) -> Diffusion:
        plan, written = progress.plan, progress.written
        rows = self._rows(progress)
        fills = self._judged(progress, [own for _, own in rows])
        most = 1.0 if options.max_uncertainty is None else options.max_uncertainty
        believed = [
            "" if may_be_empty and (fill.uncertainty or 0.0) > most else fill
            for fill, may_be_empty in zip_longest(fills, plan.may_be_empty)
        ]
        is_whole = len(written.canvases) == len(plan.blocks) and not progress.joined("is_open").any()
        is_done = written.is_ended or is_whole
        text, value = plan.result(believed) if is_done or plan.stops else ("".join(fills), None)
        kept = np.concatenate([own for own, _ in rows])
        counted = np.concatenate([own for _, own in rows])
        confidence, top_ids, top = progress.joined("confidence"), *progress.alternatives
        found = Diffusion(text)
        found.tokens = progress.joined("ids")[kept].tolist()
        found.confidences = confidence[kept].tolist()
        found.logprobs = np.log(np.maximum(confidence[kept], 1e-30), dtype=np.float64).tolist()
        found.usage = Usage(plan.prompt_tokens, len(counted))
        found.entropies = progress.joined("entropy")[kept].tolist()
        found.alternatives = [
            [
                TokenAlternative(self._token(id), id, share)
                for id, share in zip(top_ids[row].tolist(), top[row].tolist(), strict=True)
            ][: options.alternatives]
            for row in kept
        ]
        found.fills, found.value, found.steps = fills, value, progress.measured + written.passes
        found.log_confidence = float(np.log(np.maximum(confidence[counted], 1e-30), dtype=np.float64).sum())
        found.trajectory = trajectory = progress.trajectory(counted, plan.gaps)
        found.evidence = {} if plan.context is None else answer_evidence(text, plan.context, self.settings)
        found.uncertainty = (
            self._estimator(trajectory, **found.evidence) if self._estimator and found.evidence else None
        )
        found.memories = plan.memories
        # The last block may hold more than was asked for, and end there.
        is_ended = written.is_ended and bool(
            np.isin(progress.joined("ids")[counted], list(self.end_ids)).any()
        )
        found.finish_reason = "stop" if is_ended else "length" if is_done else "abandoned"
        found.prompt_tokens, found.seed = plan.prompt_tokens, progress.seed
        found.timings = DiffusionTimings(written.read_s, written.write_s)
        return found

    def _judged(self, progress: Progress, rows: Sequence[NDArray[np.int64]]) -> list[Fill]:
        """What stands in the gaps, with what is known of its being right."""
        evidence, estimator, fills = progress.plan.fill_evidence, self._fill_estimator, []
        for index, (text, own) in enumerate(zip(self._fills(progress), rows, strict=True)):
            fill = Fill(text)
            fill.trajectory = progress.trajectory(own, [progress.plan.gaps[index]])
            fill.evidence = evidence(index, text) if evidence and text else {}
            if estimator and fill.evidence:
                fill.uncertainty = estimator(fill.trajectory, **fill.evidence)
            fills.append(fill)
        return fills

    def _text(self, prompt: Any, context: Context | None, options: DiffusionOptions) -> CanvasPlan:
        wanted = options.max_tokens or options.block_length or self.settings.block_length
        return self.behind(self._prompt(prompt, context), wanted, options.block_length)

    def behind(self, ids: Ids, wanted: int, block_length: int | None) -> CanvasPlan:
        """Lay out a text of at most `wanted` tokens behind what is read."""
        length = block_length or self.settings.block_length
        given, left = ids[:0], wanted
        if self.settings.attention == "block":
            # Blocks are counted from the text's beginning, and as long as in training: the first ends what
            # the prompt began, and the last may hold more than is wanted of it.
            given = ids[len(ids) // length * length :]
            ids = ids[: len(ids) - len(given)]
            window = self._core.config.max_position_embeddings - len(ids) - len(given)
            left = max(wanted, min(-(-(wanted + len(given)) // length) * length - len(given), window))
        begin, blocks = len(given), []
        while left:
            room = min(left, length - len(given))
            blocks.append(np.concatenate([given, np.full(room, self.settings.mask_id, np.int32)]))
            left, given = left - room, given[:0]
        return CanvasPlan(
            ids,
            tuple(blocks),
            ((begin, begin + wanted),),
            lambda fills: (fills[0].strip(), None),
            stops=True,
        )

    def _held_to_spans(
        self,
        plan: CanvasPlan,
        context: Context | None,
        infill: str | None,
        template: Template | Mapping[str, Any] | None,
        options: DiffusionOptions,
    ) -> CanvasPlan:
        if context is None or infill is not None or template is not None:
            raise SamplingError(
                "extractive holds an answer to spans of its context; give a question and context"
            )
        if len(plan.blocks) > 1:
            raise SamplingError(
                f"extractive writes one block; max_tokens is {options.max_tokens}, expected at most "
                f"{len(plan.blocks[0])}, or a greater block_length"
            )
        end_id = min(self.end_ids)
        declines = self.settings.declines if options.may_decline else None
        spans = span_candidates(
            plan.blocks[0],
            self.settings.mask_id,
            [context] if isinstance(context, str) else context,
            self._encode_all,
            end_id,
            end_id if self.settings.null_id is None else self.settings.null_id,
            [declines] if declines else (),
        )
        return replace(plan, candidates={0: spans})

    def _infill(
        self, prompt: Any, context: Context | None, infill: str, max_fill: int | None, min_fill: int
    ) -> CanvasPlan:
        ids = self._prompt(prompt, context) if prompt is not None or context is not None else _NO_IDS
        vocab_size = self._core.config.vocab_size
        return infill_plan(ids, infill, self._encode, self.settings, vocab_size, max_fill, min_fill)

    def _template(
        self, prompt: Any, context: Context | None, template: Template, max_fill: int | None
    ) -> CanvasPlan:
        notes = context if isinstance(context, str) else "\n".join(context or ())
        said = [text for text in (notes, prompt) if text]
        if not all(isinstance(text, str) for text in said):
            raise SamplingError("a template takes a prompt as a text; give what it is filled from as context")
        if prompt is None or context is None:
            said.append(_ASKED)
        ids = self._turn("\n\n".join(said)) if len(said) > 1 or prompt else _NO_IDS
        return template_plan(
            ids,
            template,
            SlotTokens(self._tokenizer, self.settings.null_id),
            self._encode,
            self.settings.mask_id,
            max_fill,
            notes or prompt or "",
        )

    def _prompt(self, prompt: str | Sequence[Message] | None, context: Context | None) -> Ids:
        """Ids of what is read before the canvas. In text and in messages nothing is a special token."""
        if prompt is None:
            raise SamplingError("expected a prompt, messages, infill or template")
        if context is None and not isinstance(prompt, str):
            return self._tokenizer.apply_chat_template(
                prompt, tokenize=True, chat_template=self.settings.chat_template
            )
        if not isinstance(prompt, str):
            raise SamplingError("context belongs to a question as a text; write it into the messages")
        if context is None:
            return self._turn(prompt)
        passages = context if isinstance(context, str) else "\n\n".join(context)
        # Word for word: a passage may hold braces.
        values = {"{context}": passages, "{question}": prompt}
        return self._turn("".join(values.get(part, part) for part in _PLACES.split(self.settings.question)))

    def _turn(self, text: str) -> Ids:
        return turn_ids(self._tokenizer, text, self.settings.chat_template)

    def _encode_all(self, texts: Sequence[str]) -> list[Ids]:
        return self._tokenizer.encode(
            texts, add_special_tokens=False, padding=False, split_special_tokens=True
        ).ids

    def _encode(self, text: str) -> Ids:
        return text_ids(self._tokenizer, text)

    def _token(self, id: int) -> str:
        return self._tokenizer.decode([id], skip_special_tokens=False)

    def _shown(self, ids: Ids) -> list[str | None]:
        """Texts of tokens: None where one is open, "" for those that spell nothing."""
        nothing = {self.settings.null_id, *self.end_ids}
        return [
            None if id == self.settings.mask_id else "" if id in nothing else self._token(id)
            for id in ids.tolist()
        ]


_NO_IDS = np.zeros(0, np.int32)
_PLACES = re.compile(r"(\{context\}|\{question\})")
