"""What `metadata.json` says about a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_os_diffusion.models.family import family_of
from ai_os_diffusion.models.untrusted_values import MAX_LAYERS, MAX_TOKENS, UntrustedValues, read_values
from ai_os_diffusion.utils.errors import ModelLoadError, ModelNotFoundError

if TYPE_CHECKING:
    from ai_os_diffusion.models.diffusion_settings import DiffusionSettings

__all__ = [
    "CONVERTER_VERSION",
    "FIRST_CONVERTER_VERSION",
    "FORMAT_VERSION",
    "POOLINGS",
    "ModelMetadata",
    "check_metadata",
    "is_outdated",
]

POOLINGS = ("mean", "cls", "last", "max", "mean_sqrt", "weighted_mean")
"""How the states of a text's tokens become one vector."""

FORMAT_VERSION = 1

FIRST_CONVERTER_VERSION = 1
"""What wrote a folder that does not say."""

CONVERTER_VERSION = 1
"""Raised when a folder that was written before computes something else than one written now would."""


@dataclass(frozen=True)
class ModelMetadata:
    """The description of a model; names and defaults as in `metadata.json`.

    Attributes:
        architecture: name of its `Family`.
        max_position_embeddings: most tokens the network takes.
        position_offset: row of the table of positions that the first token takes.
        window_reach: tokens that those of `windowed_layers` see on either side of them.
        windowed_layers: blocks whose tokens see a window alone.
        window_rope_theta: base of the rotary frequencies there.
        num_labels: scores that the head for whole texts gives; 0 without one.
        classifier_pooling: which state of a text that head takes, "cls" or "mean".
        score_scale: what a score is, "sigmoid" of what the head gives, or it as it is, "identity".
        max_seq_length: tokens at which texts to embed are cut; 0 is `max_position_embeddings`.
        has_head: a decoder's states can be scored against the vocabulary; not those of a model that was saved
            without its head, as embedding models are.
        pooling: one of `POOLINGS`, or None for a model that does not embed.
        normalize: embeddings have length 1.
        include_prompt: the tokens of a prompt take part in the pooling.
        prompts: text put before a sentence, by use ("query", "document").
        default_prompt_name: the prompt that is put before a sentence of no stated use.
        truncate_dim: numbers of an embedding that are kept; 0 is all.
        eos_token_ids: tokens that end a generated text.
        diffusion: how the model writes by diffusion; None for a model that does not, unless a card makes it.
    """

    architecture: str
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    norm_eps: float
    hidden_act: str
    model_type: str = ""
    num_kv_heads: int = 0
    head_dim: int = 0
    max_seq_length: int = 0
    rope_theta: float | None = None
    rope_scaling: Mapping[str, Any] | None = None
    tied_embeddings: bool | None = None
    has_head: bool = True
    type_vocab_size: int = 2
    attention_bias: bool | None = None
    position_offset: int = 0
    window_reach: int = 0
    windowed_layers: tuple[int, ...] = ()
    window_rope_theta: float | None = None
    num_labels: int = 0
    classifier_pooling: str = "cls"
    score_scale: str = "sigmoid"
    pooling: str | None = None
    normalize: bool = False
    include_prompt: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    truncate_dim: int = 0
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    mask_token_id: int | None = None
    chat_template: str | None = None
    diffusion: DiffusionSettings | None = None
    quantization: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    converter_version: int = FIRST_CONVERTER_VERSION

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelMetadata:
        """Read a mapping; keys of other parts are ignored.

        Raises:
            ModelDamagedError: a key is missing, or its value is of another type or out of range.
            ModelLoadError: the format is of a later version, or the converter that wrote the model of an
                earlier one than results rely on.
        """
        version = values.get("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ModelLoadError(
                f"metadata.json has format_version {version!r}, expected {FORMAT_VERSION}; "
                "update ai-os-diffusion or convert the model again"
            )
        if is_outdated(values):
            written = values.get("converter_version", FIRST_CONVERTER_VERSION)
            raise ModelLoadError(
                f"metadata.json has converter_version {written!r}, expected {CONVERTER_VERSION}: what the "
                "converter wrote then computes something else than what it writes now; pull or convert the "
                "model again from its source"
            )
        given = check_metadata(UntrustedValues("metadata.json", values))
        heads, hidden = given["num_heads"], given["hidden_size"]
        given["num_kv_heads"] = given.get("num_kv_heads") or heads
        given["head_dim"] = given.get("head_dim") or max(hidden // heads, 1)
        window = given.get("max_seq_length") or given["max_position_embeddings"]
        given["max_seq_length"] = min(window, given["max_position_embeddings"])
        return cls(**given)

    @classmethod
    def from_folder(cls, folder: Path) -> ModelMetadata:
        """Read the `metadata.json` of a model folder.

        Raises:
            ModelNotFoundError: there is no such file.
            ModelDamagedError: it is no JSON object, or lacks a key.
            ModelLoadError: as for `from_dict`.
        """
        file = folder / "metadata.json"
        try:
            values = read_values(file).values
        except FileNotFoundError:
            raise ModelNotFoundError(
                f"{folder}: no metadata.json; expected a converted model folder, see `aios convert`"
            ) from None
        except OSError as error:
            raise ModelLoadError(f"{file}: cannot be read: {error.strerror}") from error
        try:
            return cls.from_dict(values)
        except ModelLoadError as error:
            raise type(error)(f"{file}: {error}") from error

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        return self.truncate_dim or self.hidden_size

    @property
    def is_decoder(self) -> bool:
        """Whether the model continues text."""
        return family_of(self.architecture).is_decoder

    @property
    def kind(self) -> str:
        """What it is for: "encoder", "decoder", or "diffusion" for a network of a decoder that writes so."""
        if self.diffusion is not None:
            return "diffusion"
        return "decoder" if self.is_decoder else "encoder"

    def to_json(self) -> str:
        """The description as the native core reads it."""
        return json.dumps(asdict(self))


def check_metadata(values: UntrustedValues) -> dict[str, Any]:
    """The fields that are there, each of its type and in its range.

    Raises:
        ModelDamagedError: one is not, or a needed one is missing; it is named.
    """
    read: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(("architecture", "hidden_act", "model_type", "chat_template"), values.text),
        **dict.fromkeys(("hidden_size", "num_heads", "intermediate_size"), values.integer),
        **dict.fromkeys(("vocab_size", "max_position_embeddings"), partial(values.integer, high=MAX_TOKENS)),
        # 0 is "not said": it follows from others.
        **dict.fromkeys(("num_kv_heads", "head_dim", "truncate_dim"), partial(values.integer, low=0)),
        "num_layers": partial(values.integer, high=MAX_LAYERS),
        "norm_eps": values.number,
        "max_seq_length": partial(values.integer, low=0, high=MAX_TOKENS),
        "rope_theta": values.number,
        **dict.fromkeys(("rope_scaling", "quantization", "source"), lambda key: values.section(key).values),
        **dict.fromkeys(
            ("tied_embeddings", "has_head", "attention_bias", "normalize", "include_prompt"), values.flag
        ),
        **dict.fromkeys(("type_vocab_size", "num_labels"), partial(values.integer, low=0)),
        **dict.fromkeys(("position_offset", "window_reach"), partial(values.integer, low=0, high=MAX_TOKENS)),
        "windowed_layers": lambda key: tuple(values.ids(key)),
        "window_rope_theta": values.number,
        **dict.fromkeys(("classifier_pooling", "score_scale"), values.text),
        **dict.fromkeys(("pooling", "default_prompt_name"), values.text),
        "prompts": lambda key: _texts(values.section(key)),
        **dict.fromkeys(("bos_token_id", "pad_token_id", "mask_token_id"), values.maybe_integer),
        "eos_token_ids": lambda key: tuple(values.ids(key)),
        **dict.fromkeys(("format_version", "converter_version"), values.integer),
    }
    needed = [item.name for item in fields(ModelMetadata) if item.default is item.default_factory is MISSING]
    given = {key: reader(key) for key, reader in read.items() if key in needed or key in values}
    if given.get("pooling") not in (None, *POOLINGS):
        raise values.fault("pooling", f"one of {', '.join(POOLINGS)}")
    if given.get("classifier_pooling", "cls") not in POOLINGS:
        raise values.fault("classifier_pooling", f"one of {', '.join(POOLINGS)}")
    if given.get("score_scale", "sigmoid") not in ("sigmoid", "identity"):
        raise values.fault("score_scale", "sigmoid or identity")
    if "diffusion" in values:
        if not family_of(given["architecture"]).is_decoder:
            raise values.fault("diffusion", "no such entry: an encoder does not write")
        from ai_os_diffusion.models.diffusion_settings import DiffusionSettings

        section = values.section("diffusion")
        given["diffusion"] = DiffusionSettings.of(section.values, section.place, given["vocab_size"])
    if given.get("default_prompt_name") not in (None, *given.get("prompts", ())):
        raise values.fault("default_prompt_name", "the name of one of its prompts")
    return given


def _texts(values: UntrustedValues) -> dict[str, str]:
    return {key: values.text(key) for key in values if key in values}


def is_outdated(values: Mapping[str, Any]) -> bool:
    """Whether an earlier converter than this release's wrote a model, going by its metadata."""
    version = values.get("converter_version", FIRST_CONVERTER_VERSION)
    return not isinstance(version, int) or version < CONVERTER_VERSION
