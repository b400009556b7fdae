"""The verbs of an engine that write by diffusion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ai_os_diffusion.contracts import Message
from ai_os_diffusion.utils.errors import InferenceError, SamplingError

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from ai_os_diffusion.diffusion import Condition, MemoryConditioner
    from ai_os_diffusion.inference.constraints import Constraint
    from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan
    from ai_os_diffusion.inference.denoising.diffuser import Diffuser
    from ai_os_diffusion.inference.denoising.diffusion_options import DiffusionOptions
    from ai_os_diffusion.inference.denoising.diffusion_text import Diffusion, DiffusionStream
    from ai_os_diffusion.inference.denoising.text_stream import TextStream
    from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
    from ai_os_diffusion.inference.inference_core import InferenceCore
    from ai_os_diffusion.models.diffusion_settings import DiffusionSettings

__all__ = ["DiffuseOptions", "DiffusingEngine"]

_MODALITIES = ("text",)
KIND = "diffusion"


class DiffuseOptions(TypedDict, total=False):
    """Settings of `diffuse`.

    Attributes:
        num_steps: passes in all, from 1 to the number of positions; None, the default, takes as many as the
            sampler needs: one for each round of sure enough tokens; for gaps of `infill` one a token.
        max_tokens: positions of a text, by default one block.
        block_length: positions that are written together; by default the model's.
        temperature: 0, the default, takes the most probable token.
        seed: same seed, same text on one machine; by default drawn anew and reported.
        sampler: which positions a pass commits, by a name of `SAMPLERS`.
        threshold: of the sampler "threshold": commits every position that is at least so sure.
        guidance_scale: above 1 leads further away from what would be written without the context, or, where
            there is none, without the prompt.
        alternatives: most probable tokens to tell for each position.
        extractive: hold the answer to runs of words that stand in `context`, or to declining where the model
            knows how to.
        may_decline: of an extractive answer; False where it is known to stand there.
        max_uncertainty: leave values of a template empty, where they may be, whose probability of being wrong
            is above this; None, the default, keeps all that was written.
        min_fill: tokens that each gap of `infill` holds at least; as many as `max_fill` where its length is
            known.
        cache: of a model in which all of a text sees all: "none" reads the whole text in every pass; "prefix"
            keeps the keys of the text before a block as they were in its first pass, "dual" those behind it
            too. By default the model's. It saves most of the time of a long text and changes what is written
            a little.
        top_p: draw from the fewest tokens that together have this probability.
        top_k: draw from this many tokens; 0 is all.
        min_p: leave out tokens less probable than this fraction of the most probable one.
        constraints: what the text has to satisfy, see `ConstraintOptions`; with gaps the text and what fills
            them. A template holds to its schema by itself.
        energy: as there.
        attempts: as there.
    """

    num_steps: int | None
    max_tokens: int | None
    block_length: int | None
    temperature: float
    seed: int | None
    sampler: str | None
    threshold: float | None
    guidance_scale: float
    alternatives: int
    extractive: bool
    may_decline: bool
    min_fill: int
    max_uncertainty: float | None
    cache: Literal["none", "prefix", "dual"] | None
    top_p: float
    top_k: int
    min_p: float
    constraints: Constraint | Sequence[Constraint] | None
    energy: float | None
    attempts: int | None


class DiffusingEngine(ABC):
    """What `ArrowEngine` does by diffusion: as its model does, or with a card of kind "diffusion".

    Attributes:
        conditioner: finds in memory what `memory_guided` texts are written from; None without a memory.
    """

    folder: Path
    tokenizer: FastTokenizer
    conditioner: MemoryConditioner | None = None

    @property
    def diffusion_settings(self) -> DiffusionSettings:
        """How the model writes by diffusion: as its card for it says, or as it says itself.

        Raises:
            InferenceError: it does not.
            ModelLoadError: its card says it wrongly.
        """
        from ai_os_diffusion.models.diffusion_settings import DiffusionSettings

        core = self.core
        described = [about for about in core.cards.in_use(KIND).descriptions if about.kind == KIND]
        if not described and core.config.diffusion is not None:
            return core.config.diffusion
        if len(described) != 1:
            names = ", ".join(about.name for about in described) or "none"
            raise InferenceError(
                f"{self.folder.name} writes by diffusion with one card of kind {KIND!r}; attached: {names}"
            )
        place = f"card {described[0].name!r}: config"
        return DiffusionSettings.of(described[0].config, place, core.config.vocab_size)

    @property
    @abstractmethod
    def core(self) -> InferenceCore:
        """The forward pass."""

    def diffuse(
        self,
        prompt: str | Sequence[Message] | None = None,
        *,
        context: str | Sequence[str] | None = None,
        infill: str | None = None,
        template: Mapping[str, Any] | None = None,
        max_fill: int | None = None,
        modality: str = "text",
        memory_guided: bool = False,
        **options: Unpack[DiffuseOptions],
    ) -> Diffusion:
        """Write by diffusion: a block is open at first, and each pass fills the positions it is sure of.

        Args:
            prompt: a question or task; or messages. What they spell is text.
            context: passages that the answer is to be found in, one or several texts.
            infill: a text in which `{}` stands for each gap; given text stays to the letter.
            template: a JSON object whose values are to be found, as names with types or as a JSON schema; the
                result always parses and holds values of these types.
            max_fill: most tokens of a gap or value, by default 8 and 12.
            modality: "text".
            memory_guided: find the passages in memory, by the prompt; `conditioner` says how. The better what
                is found fits, the more a `guidance_scale` counts.
            **options: see `DiffuseOptions`.

        Returns:
            A `Diffusion`, which is a `str`.

        Raises:
            InferenceError: the model does not write by diffusion.
            SamplingError: a setting is out of range, or two contradict each other.
            ConstraintError: no text satisfies the constraints.
        """
        diffuser, plan, settings = self._planned(
            prompt, context, infill, template, max_fill, modality, options, memory_guided=memory_guided
        )
        drawing, seed = settings.drawing, settings.own_seed
        if drawing is None:
            return diffuser.write(plan, settings)

        def attempt(number: int, energy: float) -> Diffusion:
            own = replace(settings, seed=(seed + number) % (1 << 64), energy=energy)
            written = diffuser.write(plan, own)
            written.attempts = number + 1
            return written

        return drawing.drawn(attempt)

    def diffuse_stream(
        self,
        prompt: str | Sequence[Message] | None = None,
        *,
        context: str | Sequence[str] | None = None,
        infill: str | None = None,
        template: Mapping[str, Any] | None = None,
        max_fill: int | None = None,
        modality: str = "text",
        memory_guided: bool = False,
        **options: Unpack[DiffuseOptions],
    ) -> DiffusionStream:
        """As `diffuse`, pass by pass: an iterator of `DiffusionStep`; its `diffusion` is the result.

        A text with constraints may have to be drawn again, so it has no stream.
        """
        if options.get("constraints") is not None:
            raise SamplingError("a text with constraints may be drawn again, and has no stream; call diffuse")
        diffuser, plan, settings = self._planned(
            prompt, context, infill, template, max_fill, modality, options, memory_guided=memory_guided
        )
        return diffuser.stream(plan, settings)

    def _planned(
        self,
        prompt: Any,
        context: Any,
        infill: Any,
        template: Any,
        max_fill: Any,
        modality: str,
        options: Any,
        *,
        memory_guided: bool = False,
    ) -> tuple[Diffuser, CanvasPlan, DiffusionOptions]:
        if modality not in _MODALITIES:
            raise SamplingError(f"modality is {modality!r}, expected one of {', '.join(_MODALITIES)}")
        diffuser, checked = self._diffuser(options)
        if checked.drawing is not None and template is not None:
            raise SamplingError(
                "a template is held to its schema, and to nothing else; leave constraints out"
            )
        if not memory_guided:
            return diffuser, diffuser.plan(prompt, context, infill, template, max_fill, checked), checked
        condition = self._condition(prompt, context)
        checked = replace(checked, guidance_scale=condition.guidance_scale(checked.guidance_scale))
        plan = diffuser.plan(prompt, condition.passages or None, infill, template, max_fill, checked)
        return diffuser, replace(plan, memories=condition.memories), checked

    def _continued(
        self,
        prompt: Any,
        messages: Sequence[Message] | None,
        given: Mapping[str, Any],
        filters: Mapping[str, Any],
    ) -> TextStream:
        """A text that continues a prompt, by diffusion.

        Args:
            prompt: of `generate`.
            messages: of `generate`.
            given: its other arguments, those of `resolve_options` and the seed among them.
            filters: top_p, top_k, min_p and repetition_penalty.
        """
        from ai_os_diffusion.inference.denoising.text_stream import TextStream
        from ai_os_diffusion.inference.generation.generation_options import DIFFUSION, resolve_options
        from ai_os_diffusion.inference.generation.text_writer import TextWriter

        own = {name: given[name] for name in DIFFUSION if name in given}
        others = {name: value for name, value in given.items() if name not in DIFFUSION}
        seed, most, temperature, stop = (
            others.pop(name) for name in ("seed", "max_tokens", "temperature", "stop")
        )
        options = resolve_options(prompt, most, temperature, stop, others)
        if options.drawing is not None:
            raise SamplingError(
                "constraints: a text that continues a prompt by diffusion has none; use mode='ar', or diffuse"
            )
        if options.guidance_scale != 1:
            raise SamplingError(
                "guidance_scale: what continues a prompt by diffusion has none; use mode='ar', or diffuse"
            )
        if filters["repetition_penalty"] != 1:
            raise SamplingError(
                f"repetition_penalty is {filters['repetition_penalty']!r}, expected 1 in mode='diffusion': "
                "its tokens are not chosen one after the other"
            )
        kept = {name: value for name, value in filters.items() if name != "repetition_penalty"}
        diffuser, checked = self._diffuser(
            {**own, **kept, "temperature": options.temperature, "seed": seed}, options.end_ids
        )
        writer = TextWriter(self.core, self.tokenizer, self.folder.name, diffuser.settings.chat_template)
        prepared = writer.prepare(options, messages, checked.own_seed)
        return TextStream(
            diffuser,
            diffuser.behind(prepared.ids, prepared.room, checked.block_length),
            replace(checked, seed=prepared.seed),
            self.tokenizer.decode_stream(),
            prepared.stop,
        )

    def _diffuser(
        self, options: Mapping[str, Any], ends: Collection[int] | None = None
    ) -> tuple[Diffuser, DiffusionOptions]:
        """What writes by diffusion here, with settings checked.

        Args:
            options: of `DiffuseOptions`.
            ends: tokens that end the text, in place of the model's.
        """
        from ai_os_diffusion.inference.denoising.diffuser import Diffuser
        from ai_os_diffusion.inference.denoising.diffusion_options import DiffusionOptions

        settings, checked = self.diffusion_settings, DiffusionOptions(**options)
        if ends is not None:
            settings = replace(settings, end_ids=tuple(ends))
        end = self.tokenizer.eos_id
        end_ids = frozenset(self.core.config.eos_token_ids or (() if end is None else (end,)))
        applied = checked.applied_to(settings)
        return Diffuser(self.core, self.core.cards.in_use(KIND), self.tokenizer, applied, end_ids), checked

    def _condition(self, prompt: Any, context: Any) -> Condition:
        if self.conditioner is None:
            raise InferenceError(
                f"{self.folder.name} has no memory to be guided by; set `conditioner`, or use open_runtime"
            )
        if context is not None:
            raise SamplingError("context and memory_guided both say what a text is written from; give one")
        if not isinstance(prompt, str):
            raise SamplingError("memory_guided looks for passages by a prompt that is a text; give one")
        return self.conditioner.condition(prompt)
