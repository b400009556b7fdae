"""What `metadata.json` says about a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError, ModelNotFoundError

__all__ = ["CONVERTER_VERSION", "FIRST_CONVERTER_VERSION", "FORMAT_VERSION", "ModelMetadata", "is_outdated"]

FORMAT_VERSION = 1

FIRST_CONVERTER_VERSION = 1
"""What wrote a folder that does not say."""

CONVERTER_VERSION = 1
"""Raised when a folder that was written before computes something else than one written now would."""


@dataclass(frozen=True)
class ModelMetadata:
    """The description of a model; names and defaults as in `metadata.json`.

    Attributes:
        architecture: "bert", "llama", "qwen2" or "qwen3".
        max_position_embeddings: most tokens the network takes.
        max_seq_length: tokens at which texts to embed are cut; 0 is `max_position_embeddings`.
        pooling: "mean", "cls", "last", or None for a model that does not embed.
        normalize: embeddings have length 1.
        prompts: text put before a sentence, by use ("query", "document").
        eos_token_ids: tokens that end a generated text.
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
    type_vocab_size: int = 2
    attention_bias: bool | None = None
    pooling: str | None = None
    normalize: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    mask_token_id: int | None = None
    chat_template: str | None = None
    quantization: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    converter_version: int = FIRST_CONVERTER_VERSION

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelMetadata:
        """Read a mapping; keys of other parts are ignored.

        Raises:
            ModelDamagedError: a key is missing.
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
        known = {item.name for item in fields(cls)}
        given = {name: value for name, value in values.items() if name in known and value is not None}
        try:
            given["eos_token_ids"] = tuple(given.get("eos_token_ids", ()))
            model = cls(**given)
            heads = model.num_heads
            defaults = {
                "num_kv_heads": model.num_kv_heads or heads,
                "head_dim": model.head_dim or model.hidden_size // heads,
                "max_seq_length": min(model.max_seq_length or 1 << 62, model.max_position_embeddings),
            }
            return cls(**{**given, **defaults})
        except (TypeError, ZeroDivisionError) as error:
            raise ModelDamagedError(f"metadata.json: {error}") from error

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
            values = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelNotFoundError(
                f"{folder}: no metadata.json; expected a converted model folder, see `aios convert`"
            ) from None
        except OSError as error:
            raise ModelLoadError(f"{file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ModelDamagedError(f"{file}: cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise ModelDamagedError(f"{file}: expected a JSON object, got {type(values).__name__}")
        try:
            return cls.from_dict(values)
        except ModelLoadError as error:
            raise type(error)(f"{file}: {error}") from error

    @property
    def is_decoder(self) -> bool:
        """Whether the model continues text."""
        return self.architecture != "bert"

    def to_json(self) -> str:
        """The description as the native core reads it."""
        return json.dumps(asdict(self))


def is_outdated(values: Mapping[str, Any]) -> bool:
    """Whether an earlier converter than this release's wrote a model, going by its metadata."""
    version = values.get("converter_version", FIRST_CONVERTER_VERSION)
    return not isinstance(version, int) or version < CONVERTER_VERSION
