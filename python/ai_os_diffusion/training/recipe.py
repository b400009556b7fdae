"""A recipe of training: what is trained on what, and how; read from TOML."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ai_os_diffusion.models.untrusted_values import MAX_CONFIG_BYTES, UntrustedValues
from ai_os_diffusion.training.settings import (
    BatchSettings,
    CardSettings,
    DataSettings,
    DistillSettings,
    NoiseSettings,
    OptimizerSettings,
    ReportSettings,
    maybe_dtype,
    one_of,
)
from ai_os_diffusion.utils.errors import ConfigurationError
from ai_os_diffusion.utils.files.regular_file import read_regular

__all__ = ["Method", "Objective", "Recipe", "check_keys", "flattened", "read_recipe"]

Method = Literal["card", "full"]
Objective = Literal["diffusion", "causal", "both"]

_METHODS: tuple[Method, ...] = ("card", "full")
_OBJECTIVES: tuple[Objective, ...] = ("diffusion", "causal", "both")


@dataclass(frozen=True)
class Recipe:
    """Everything about a run but where it is written and what computes it.

    Attributes:
        base: the model: a pulled name or a folder.
        name: of the card.
        method: low-rank factors, or all weights.
        objective: masked tokens, the next token, or both.
        start: a card to go on from.
        seed: of all that is drawn.
        dtype: of the products; by default bfloat16 on a GPU and float32 elsewhere.
    """

    base: str
    data: DataSettings
    optimizer: OptimizerSettings
    name: str = "diffusion"
    method: Method = "card"
    objective: Objective = "diffusion"
    start: Path | None = None
    seed: int = 0
    dtype: str | None = None
    batch: BatchSettings = field(default_factory=BatchSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    card: CardSettings = field(default_factory=CardSettings)
    distill: DistillSettings | None = None
    report: ReportSettings = field(default_factory=ReportSettings)

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a TOML file.

        Args:
            path: the file; paths in it are relative to its folder.
            overrides: lines of TOML that win over it, as `optimizer.steps = 100`.

        Raises:
            ConfigurationError: it is none, or a key is unknown, missing, of another type or out of range.
        """
        return cls.of(read_recipe(path, overrides), str(path), path.parent)

    @classmethod
    def of(cls, document: Mapping[str, Any], place: str = "recipe", folder: Path | None = None) -> Recipe:
        """Read values.

        Args:
            document: by name.
            place: names it in errors.
            folder: what paths are relative to.

        Raises:
            ConfigurationError: as for `read`.
        """
        values = UntrustedValues(place, document, ConfigurationError)
        folder = folder or Path()
        tables = {name: values.section(name) for name in _TABLES}
        check_keys(values, cls)
        for name, table in tables.items():
            check_keys(table, _TABLES[name])
        start, dtype = values.maybe_text("start"), maybe_dtype(values)
        found = cls(
            base=values.text("base"),
            data=DataSettings.of(tables["data"], folder),
            optimizer=OptimizerSettings.of(tables["optimizer"]),
            name=values.text("name", cls.name, high=200),
            method=one_of(values, "method", _METHODS),
            objective=one_of(values, "objective", _OBJECTIVES),
            start=None if start is None else folder / start,
            seed=values.integer("seed", 0, low=0, high=1 << 31),
            dtype=dtype,
            batch=BatchSettings.of(tables["batch"]),
            noise=NoiseSettings.of(tables["noise"]),
            card=CardSettings.of(tables["card"]),
            distill=DistillSettings.of(tables["distill"]) if "distill" in values else None,
            report=ReportSettings.of(tables["report"]),
        )
        if found.distill is not None and found.objective != "diffusion":
            raise ConfigurationError(
                f"{place}: distill is of the objective 'diffusion', got {found.objective!r}"
            )
        if found.report.infill and found.objective == "causal":
            raise ConfigurationError(f"{place}: report.infill is filled by diffusion, not by the next token")
        if found.method == "full" and found.start is not None:
            raise ConfigurationError(f"{place}: start is a card, and method 'full' trains none; name a base")
        return found

    @property
    def fixed(self) -> dict[str, Any]:
        """What a run cannot change on its way, as JSON can hold it."""
        return flattened(self)


_TABLES: Mapping[str, Any] = {
    "data": DataSettings,
    "batch": BatchSettings,
    "noise": NoiseSettings,
    "card": CardSettings,
    "optimizer": OptimizerSettings,
    "distill": DistillSettings,
    "report": ReportSettings,
}


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file, and lines of TOML that win over it.

    Raises:
        ConfigurationError: there is none, or it is no TOML.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: not found; expected a recipe in TOML")
    document = _toml(read_regular(path, MAX_CONFIG_BYTES, ConfigurationError), str(path))
    for override in overrides:
        _merge(document, _toml(override.encode(), f"--set {override}"))
    return document


def flattened(recipe: Any) -> dict[str, Any]:
    """What a run cannot change on its way, as JSON can hold it: all but what is told and who draws."""
    found = asdict(recipe)
    del found["report"], found["batch"]["workers"]
    flat: dict[str, Any] = {}
    for name, value in found.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        flat.update({f"{name}.{key}".rstrip("."): repr(one) for key, one in inner})
    return flat


def _toml(content: bytes, place: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise ConfigurationError("recipes are TOML: pip install 'ai-os-diffusion[train]'") from None
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place}: no TOML: {error}") from error


def _merge(document: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value


def check_keys(values: UntrustedValues, section: Any) -> None:
    """Refuse keys that a dataclass has no field for.

    Raises:
        ConfigurationError: there is one.
    """
    known = [item.name for item in fields(section)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigurationError(f"{values.place}: key {key!r} is not known; {hint}")
