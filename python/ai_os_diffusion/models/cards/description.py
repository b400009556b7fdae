"""What a card says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.models.untrusted_values import UntrustedValues, shown
from ai_os_diffusion.utils.errors import CardError, ModelLoadError
from ai_os_diffusion.utils.files.regular_file import parse_json

__all__ = ["CONTROL", "DIFFUSION", "MAX_RANK", "READER", "Base", "CardDescription"]

FORMAT_VERSION = 1

MAX_RANK = 4096

DIFFUSION = "diffusion"
"""A mode, and the kind of the card that makes a model write in it."""

READER = "reader"
"""A mode, and the kind of the card that makes an encoder point at answers in passages."""

CONTROL = "control"
"""The kind of a card that lends a structure to whatever is asked, and belongs to no subject."""

_MODES = {"causal": "ar", DIFFUSION: DIFFUSION}
"""What a skill serves by what it was trained for; of others nothing is known, and they serve all."""


def description_json(values: Mapping[str, Any], place: str) -> str:
    """What is said of a card as its file has it.

    Raises:
        CardError: a value is none of JSON's: of another type, NaN, or text that UTF-8 cannot hold.
    """
    try:
        text = json.dumps({"format_version": FORMAT_VERSION, **values}, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CardError(f"{place}: expected JSON values (no NaN), got {error}") from error
    return text


@dataclass(frozen=True)
class Base:
    """The model that a card belongs to.

    Attributes:
        name: what it was pulled or converted as.
        architecture: its family, as in `ModelMetadata`.
        weights_sha256: digest of the weights that it was converted from. Conversions of the same weights to
            other precisions share it, and the card.
    """

    name: str
    architecture: str
    weights_sha256: str

    @classmethod
    def of_folder(cls, folder: Path) -> Base:
        """The base that a model folder is.

        Raises:
            ModelLoadError: it is no model folder, or does not say what it was converted from.
        """
        metadata = ModelMetadata.from_folder(folder)
        source = UntrustedValues(f"{folder / 'metadata.json'}: source", metadata.source)
        digest = source.maybe_text("weights_sha256")
        if digest is None:
            raise ModelLoadError(
                f"{folder}: metadata.json does not say of which weights it was converted; convert it again"
            )
        return cls(source.text("name", folder.name), metadata.architecture, digest)


@dataclass(frozen=True)
class CardDescription:
    """Everything about a card but its tensors.

    Attributes:
        name: what it is attached and detached as.
        kind: what it does: "reader", "diffusion", "skill", "control", or another word.
        base: the model that it belongs to.
        rank: rows of its low-rank factors; 0 without any. A layer's own may be smaller.
        side_width: rows of the first matrices of its side blocks; 0 without any. One's own may be smaller.
        scaling: a layer computes W x + scaling · B (A x).
        row_ids: tokens whose rows of the embedding, and of a head tied to it, the card brings.
        heads: names of the heads that it brings.
        config: what its use needs to know, by name: prompts, token ids, thresholds.
        licence: an SPDX expression, where it is known.
        metrics: what was measured, by name.
        data_sha256: digest of the data that it was trained on, where it is known.
        created_at: when it was made, ISO 8601 in UTC.
    """

    name: str
    kind: str
    base: Base
    rank: int
    scaling: float
    row_ids: tuple[int, ...] = ()
    heads: tuple[str, ...] = ()
    side_width: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str | None = None
    created_at: str | None = None

    @property
    def mode(self) -> str | None:
        """The one way to use a model that the card serves: "ar", "diffusion", "reader"; None for all."""
        if self.kind in (DIFFUSION, READER):
            return self.kind
        return _MODES.get(str(self.config.get("objective")))

    def to_json(self) -> str:
        """As it stands in the file.

        Raises:
            CardError: `config` or `metrics` holds what JSON cannot.
        """
        return description_json(asdict(self), f"card {self.name!r}")

    @classmethod
    def from_json(cls, text: str, place: str) -> CardDescription:
        """Read what `to_json` wrote.

        Args:
            text: JSON.
            place: names it in errors.

        Raises:
            CardError: it is not that, or of a later version.
        """
        found = parse_json(text.encode(), place, CardError)
        if not isinstance(found, dict):
            raise CardError(f"{place}: expected an object, got {shown(found)}")
        values = UntrustedValues(place, found, CardError)
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise CardError(
                f"{place}: format_version is {shown(version)}, expected {FORMAT_VERSION}; "
                "update ai-os-diffusion"
            )
        base = values.section("base")
        return cls(
            name=values.text("name", high=200),
            kind=values.text("kind", high=200),
            base=Base(base.text("name"), base.text("architecture"), base.text("weights_sha256")),
            rank=values.integer("rank", low=0, high=MAX_RANK),
            scaling=values.number("scaling", low=-1e6, high=1e6),
            row_ids=tuple(values.ids("row_ids")),
            heads=tuple(values.texts("heads")),
            side_width=values.integer("side_width", 0, low=0, high=MAX_RANK),
            config=values.section("config").values,
            licence=values.maybe_text("licence"),
            metrics=values.section("metrics").values,
            data_sha256=values.maybe_text("data_sha256"),
            created_at=values.maybe_text("created_at"),
        )
