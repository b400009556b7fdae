"""The façade: text to vectors, text to text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ai_os_diffusion.contracts import Message
from ai_os_diffusion.inference.device_utils import resolve_device
from ai_os_diffusion.inference.encoding.encode_call import typed_as_encode
from ai_os_diffusion.inference.encoding.encode_options import (
    EncodeOptions,
    as_tensor,
    check_placement,
    encode_settings,
)
from ai_os_diffusion.inference.encoding.sentence_encoder import SentenceEncoder
from ai_os_diffusion.inference.fast_tokenizer import as_batch
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.inference.opened_model import OpenedModel
from ai_os_diffusion.inference.reading.reading_engine import ReadingEngine
from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.utils.cosine import cosines
from ai_os_diffusion.utils.errors import InferenceError, SamplingError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from ai_os_diffusion.inference.generation.generation_options import GenerationOptions, ModeOptions
    from ai_os_diffusion.inference.generation.generation_stream import Generation, GenerationStream
    from ai_os_diffusion.inference.weight_loader import WeightMap
    from ai_os_diffusion.models.cards import Card

__all__ = ["ArrowEngine"]

Vectors = NDArray[np.float32]


class ArrowEngine(ReadingEngine):
    """One model with its tokenizer. Safe to use from several threads; a context manager.

    Args:
        model: a model folder, or the name of a pulled model ("minilm", "smollm2").
        device: "cpu", "cuda", "rocm", "xpu", "mps"; "auto" is an accelerator that torch can use, else
            the CPU, which needs no torch.
        num_threads: threads of a forward pass on the CPU; None or 0 is one for each physical core.
        backend: "native" or "torch", see `InferenceCore`.
        half_cache: keep keys and values of generated text in half precision.
        prefix_cache_bytes: most that is kept of the beginnings of prompts, so that a prompt that begins as
            an earlier one is not computed again; 0 keeps nothing, None is 256 MiB.
        dtype: what the torch backend computes in, see `InferenceCore`.

    Raises:
        ModelLoadError: there is no such model, or a file of its folder is missing or unfit.
        WeightError: the weights are damaged or not those the model needs.
        TokenizerError: the tokenizer cannot be used.
        DeviceError: the device is not there.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        num_threads: int | None = None,
        backend: Literal["native", "torch"] | None = None,
        half_cache: bool = False,
        prefix_cache_bytes: int | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    ) -> None:
        self.folder = resolve_model(model)
        opened = OpenedModel.of_folder(self.folder, num_threads or 0)
        self.metadata, self.tokenizer = opened.metadata, opened.tokenizer
        self._core: InferenceCore | None = InferenceCore(
            opened.weights,
            self.metadata,
            resolve_device(device),
            backend,
            num_threads=num_threads or 0,
            half_cache=half_cache,
            prefix_cache_bytes=prefix_cache_bytes,
            dtype=dtype,
        )
        if opened.card is not None:
            self._core.cards.adopt(opened.card)
        self._encoder: SentenceEncoder | None = SentenceEncoder(self._core, self.tokenizer, self.folder.name)

    @property
    def core(self) -> InferenceCore:
        """The forward pass.

        Raises:
            InferenceError: the engine is closed.
        """
        if self._core is None:
            raise InferenceError("the engine is closed; make a new one")
        return self._core

    @property
    def weights(self) -> WeightMap:
        """The mapped tensors of an open engine."""
        weights: WeightMap = self.core.weights
        return weights

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.metadata.dimension

    @property
    def max_seq_length(self) -> int:
        """Tokens at which texts to embed are cut."""
        return self.metadata.max_seq_length

    @property
    def model_info(self) -> dict[str, Any]:
        """What the model is: name, architecture, sizes, quantisation, source."""
        data = self.metadata
        return {
            "name": self.folder.name,
            "path": str(self.folder),
            "architecture": data.architecture,
            "model_type": data.kind,
            "dimension": data.dimension,
            "num_layers": data.num_layers,
            "vocab_size": data.vocab_size,
            "max_position_embeddings": data.max_position_embeddings,
            "max_seq_length": data.max_seq_length,
            "pooling": data.pooling,
            "normalize": data.normalize,
            "size_bytes": self.weights.native.size_bytes,
            "device": self.core.device,
            "quantization": dict(data.quantization),
            "source": dict(data.source),
        }

    def attach(self, card: Card | str | os.PathLike[str], weight: float = 1.0) -> None:
        """Use a card, or that of a file, from now on; see `AttachedCards.attach`."""
        self.core.cards.attach(card, weight)

    def detach(self, name: str) -> None:
        """Use a card no longer; see `AttachedCards.detach`."""
        self.core.cards.detach(name)

    @property
    def attached(self) -> dict[str, float]:
        """Names and weights of the cards in use."""
        return self.core.cards.weights

    def using(self, card: Card | str | os.PathLike[str], weight: float = 1.0) -> AbstractContextManager[None]:
        """Use a card in a `with` block of this thread; see `AttachedCards.using`."""
        return self.core.cards.using(card, weight)

    @property
    def stats(self) -> dict[str, Any]:
        """What serves at run time: `prefix_cache`, as `InferenceCore.prefix_stats` tells it."""
        return {"prefix_cache": self.core.prefix_stats()}

    @typed_as_encode
    def encode(
        self,
        sentences: str | Iterable[str],
        batch_size: int | None = None,
        show_progress: bool = False,
        normalize: bool | None = None,
        *,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **options: Unpack[EncodeOptions],
    ) -> NDArray[Any] | list[NDArray[Any]] | Tensor:
        """Embed texts. What they spell is text: nothing in them is a special token.

        Args:
            sentences: one text, or several in an order.
            batch_size: texts between two steps of the progress bar; batches of the forward pass are
                formed by tokens, whatever this says.
            show_progress: draw a progress bar on stderr.
            normalize: scale vectors to length 1; by default as the model says.
            convert_to_numpy: False returns a list of vectors.
            convert_to_tensor: return a tensor of torch, which is imported for it.
            **options: prompts, number types and further arguments of sentence-transformers, see
                `EncodeOptions`.

        Returns:
            float32[dim] for a string, float32[n, dim] for several texts, in their order. Of
            output_value="token_embeddings", float32[length, dim] for a string, else a list of them.

        Raises:
            TokenizerError: a text is not a `str` or holds a lone surrogate.
            InferenceError: the model does not embed, or an argument is out of range or not supported.
        """
        check_placement(options, self.core.device)
        encoder = self._encoder_open()
        asked = encode_settings(options, normalize, show_progress)
        texts = as_batch(sentences)
        prefix = encoder.prompt(options.get("prompt"), options.get("prompt_name"))
        if asked.of_tokens:
            vectors: Any = encoder.encode_tokens(texts, prefix)
        else:
            vectors = encoder.encode(
                texts,
                prefix=prefix,
                normalize=self.metadata.normalize if asked.normalize is None else asked.normalize,
                truncate_dim=options.get("truncate_dim"),
                precision=options.get("precision", "float32"),
                long_text=options.get("long_text", "truncate"),
                step=batch_size,
                show_progress=asked.show_progress,
            )
        if isinstance(sentences, str):
            return as_tensor(vectors[0]) if convert_to_tensor else vectors[0]
        if convert_to_tensor:
            return [as_tensor(rows) for rows in vectors] if asked.of_tokens else as_tensor(vectors)
        return vectors if convert_to_numpy else list(vectors)

    embed = encode

    @typed_as_encode
    def encode_query(self, sentences: str | Iterable[str], *positional: Any, **options: Any) -> Any:
        """`encode` with the model's prompt for questions."""
        return self._encode_as("query", sentences, positional, options)

    @typed_as_encode
    def encode_document(self, sentences: str | Iterable[str], *positional: Any, **options: Any) -> Any:
        """`encode` with the model's prompt for passages."""
        return self._encode_as("document", sentences, positional, options)

    def is_truncated(
        self, sentences: Sequence[str], kind: Literal["query", "document"] = "document"
    ) -> NDArray[np.bool_]:
        """Tell which texts `encode_query` or `encode_document` cuts at `max_seq_length`.

        Args:
            sentences: the texts.
            kind: the model's prompt for them counts too.

        Returns:
            bool[n].
        """
        return self._encoder_open().is_truncated(sentences, self.metadata.prompts.get(kind, ""))

    def similarity(self, a: ArrayLike | Sequence[str], b: ArrayLike | Sequence[str]) -> Vectors:
        """Cosines of every pair.

        Args:
            a: texts, or vectors [n, dim]; one text or vector is a batch of one.
            b: texts, or vectors [m, dim].

        Returns:
            float32[n, m].

        Raises:
            InferenceError: vectors differ in length.
        """
        return cosines(self._rows(a), self._rows(b))

    @overload
    def generate(
        self,
        prompt: str | Sequence[Message] | ArrayLike | None = ...,
        *,
        stream: Literal[False] = ...,
        **options: Unpack[GenerationOptions],
    ) -> Generation: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[Message] | ArrayLike | None = ...,
        *,
        stream: Literal[True],
        **options: Unpack[GenerationOptions],
    ) -> GenerationStream: ...

    def generate(
        self,
        prompt: str | Sequence[Message] | ArrayLike | None = None,
        *,
        messages: Sequence[Message] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        stream: bool = False,
        mode: str = "ar",
        **options: Unpack[ModeOptions],
    ) -> Generation | GenerationStream:
        """Continue a prompt, or answer a conversation.

        Args:
            prompt: text, which the model continues as it stands; or messages; or ids. What a text or a
                message spells is text: only ids and the model's chat template bring special tokens.
            messages: turns with `role` and `content`, written by the model's chat template.
            max_tokens: most tokens to write, by default 256; fewer if the model's window ends before
                ("length").
            temperature: 0, the default, takes the most probable token; 1 draws from the model's own
                distribution.
            top_p: draw from the fewest tokens that together have this probability.
            top_k: draw from this many tokens; 0 is all.
            min_p: leave out tokens less probable than this fraction of the most probable one.
            repetition_penalty: above 1 makes tokens less likely that were read or written before.
            stop: strings that end the text and are left out of it.
            seed: same seed, same text on one machine; by default drawn anew and reported.
            stream: return an iterator of text pieces in place of the whole text.
            mode: "ar", one token after the other; or "diffusion", as `diffuse` writes, the prompt continued
                as it stands: repetition_penalty has no meaning then, and settings of `DiffuseOptions` have.
            **options: what the text has to satisfy, see `ConstraintOptions`; and the same by the names of
                transformers, see `TransformersOptions`. What has no meaning here is refused by name.

        Returns:
            A `Generation`, which is a `str`, in mode "diffusion" a `Diffusion`, which is one; or a
            `GenerationStream` whose pieces join to it.

        Raises:
            InferenceError: the model is an encoder, does not write in that mode, or the prompt leaves no room
                in its window.
            SamplingError: a setting is out of range or not supported.
            ConstraintError: no text that was drawn satisfies the constraints.
        """
        # Whoever embeds does not wait for what writes.
        from ai_os_diffusion.inference.generation.generation_options import resolve_options
        from ai_os_diffusion.inference.generation.text_writer import TextWriter

        filters = {"top_p": top_p, "top_k": top_k, "min_p": min_p, "repetition_penalty": repetition_penalty}
        if mode == "diffusion":
            given = {
                "max_tokens": max_tokens,
                "temperature": temperature,
                "stop": stop,
                "seed": seed,
                **options,
            }
            written: GenerationStream = self._continued(prompt, messages, given, filters)
        elif mode == "ar":
            resolved = resolve_options(prompt, max_tokens, temperature, stop, options)
            writer = TextWriter(self.core, self.tokenizer, self.folder.name)
            written = writer.write(resolved, messages, seed=seed, **filters)
        else:
            raise SamplingError(f"mode is {mode!r}, expected 'ar' or 'diffusion'")
        if stream:
            return written
        for _ in written:
            pass
        return written.generation

    def perplexity(self, text: str, context: int = 512, stride: int | None = None) -> float:
        """Perplexity of a text per token of this model; see `measure_perplexity` for how it is counted.

        What spells a special token in it is text.

        Raises:
            InferenceError: the model is an encoder, the text has fewer than two tokens, or the settings
                are out of range.
        """
        from ai_os_diffusion.inference.generation.perplexity import measure_perplexity

        ids = self.tokenizer.encode(text, padding=False, split_special_tokens=True).flat_ids
        return measure_perplexity(self.core, ids, context, stride).perplexity

    def close(self) -> None:
        """Let go of the weights; calls in progress end normally."""
        self._core = self._encoder = None

    def __enter__(self) -> ArrowEngine:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ArrowEngine({str(self.folder)!r}, architecture={self.metadata.architecture!r})"

    def _encoder_open(self) -> SentenceEncoder:
        if self._encoder is None:
            raise InferenceError("the engine is closed; make a new one")
        return self._encoder

    def _encode_as(
        self, kind: str, sentences: str | Iterable[str], positional: Any, options: Mapping[str, Any]
    ) -> Any:
        """Embed with the model's prompt of that kind, if it has one and the caller gives none."""
        is_given = options.get("prompt") is not None or options.get("prompt_name") is not None
        if not is_given and kind in self.metadata.prompts:
            options = {**options, "prompt_name": kind}
        return self.encode(sentences, *positional, **options)

    def _rows(self, values: Any) -> Any:
        """Vectors as they are, those of texts made."""
        listed = [values] if isinstance(values, str) else values
        return self.encode(listed, normalize=False) if len(listed) and isinstance(listed[0], str) else listed
