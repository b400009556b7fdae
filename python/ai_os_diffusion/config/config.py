"""Settings of a process, each validated where it enters.

Precedence, highest first: arguments of `load_config` (command-line flags), environment variables
`AIOS_<SECTION>_<FIELD>` (for fields of `Config` itself `AIOS_<FIELD>`), the project file `aios.yaml` in the
working directory, the user file `config.yaml` in the user's configuration folder, the defaults below.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, Union

import platformdirs

from ai_os_diffusion.utils.errors import ConfigurationError
from ai_os_diffusion.utils.logger import get_logger
from ai_os_diffusion.utils.shared_cache import shared_cache

__all__ = [
    "Config",
    "ModelConfig",
    "PerformanceConfig",
    "RetrievalConfig",
    "Setting",
    "StorageConfig",
    "describe_config",
    "load_config",
    "misspelt_variables",
]

APP_NAME = "aios"
PROJECT_FILE = "aios.yaml"
USER_FILE = "config.yaml"

Check = Callable[[Any], bool]

# How like a variable must be to one of ours to be taken for a misspelling of it (difflib's ratio).
_LIKE = 0.8
_warned: set[str] = set()
_log = get_logger(__name__)


class Setting(NamedTuple):
    """A setting as a reference lists it.

    Attributes:
        name: dotted, as in a file ("storage.path").
        variable: of the environment.
        default: its value when nothing is given.
        doc: what it does.
        expected: its range in words; "" where the type says all.
    """

    name: str
    variable: str
    default: Any
    doc: str
    expected: str


class _Given(NamedTuple):
    """A value, and where it was given: "aios.yaml: storage.path", "AIOS_STORAGE_PATH"."""

    value: Any
    where: str


def _setting(default: Any, doc: str, expected: str = "", check: Check | None = None) -> Any:
    """A documented field; `check` says whether a value is in range, `expected` what the range is."""
    metadata = {"doc": doc, "expected": expected, "check": check}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _one_of(*choices: str) -> tuple[str, Check]:
    return "one of " + ", ".join(choices), lambda value: value in choices


def _at_least(low: float) -> tuple[str, Check]:
    return f"a number >= {low:g}", lambda value: value >= low


def _within(low: float, high: float) -> tuple[str, Check]:
    return f"a number from {low:g} to {high:g}", lambda value: low <= value <= high


def _data_dir() -> Path:
    return Path(platformdirs.user_data_dir(APP_NAME))


class _Section:
    """Validates every field on construction: its type first, then its range."""

    def __post_init__(self) -> None:
        section: Any = type(self)
        hints = _type_hints(section)
        for item in fields(self):  # type: ignore[arg-type]
            where = f"{section.__name__}.{item.name}"
            value = _validated(where, item, hints[item.name], getattr(self, item.name))
            object.__setattr__(self, item.name, value)


@dataclass(frozen=True)
class ModelConfig(_Section):
    """Which models a runtime uses."""

    encoder: str = _setting(
        "minilm",
        "Model that embeds: a pulled name, a folder, or the address of a service that speaks OpenAI's "
        "`/embeddings`, with the model's name (`http://127.0.0.1:8000/v1#bge-m3`).",
        "a name",
        bool,
    )
    encoder_cache: Path | None = _setting(
        None, "File that keeps every vector the encoder made, for one that is slow or costs money."
    )
    reader: str | None = _setting(
        None,
        "Card that reads passages for `ask`: its file, or `none`; unset takes `reader.parquet` in the "
        "encoder's folder, else the one that is shipped for it.",
    )
    decoder: str = _setting("smollm2", "Model that writes: a pulled name or a folder.", "a name", bool)
    diffusion: str = _setting(
        "smollm2-diffusion", "Model that writes by diffusion: a pulled name or a folder.", "a name", bool
    )
    device: str = _setting("auto", "Where models run.", *_one_of("auto", "cpu", "cuda", "rocm", "xpu", "mps"))


@dataclass(frozen=True)
class StorageConfig(_Section):
    """The memory store."""

    path: Path = _setting(lambda: _data_dir() / "store", "Folder of the memory store.")
    durability: str = _setting(
        "commit",
        "When a save returns: after its fsync (commit), after a shared one (batch), at once (none).",
        *_one_of("commit", "batch", "none"),
    )
    lock_timeout_s: float = _setting(
        0.0, "How long to wait for another writer, in seconds; 0 fails at once.", *_at_least(0)
    )


@dataclass(frozen=True)
class PerformanceConfig(_Section):
    """Use of the machine."""

    num_threads: int = _setting(
        0, "Threads of a forward pass; 0 is one for each physical core.", *_within(0, 1024)
    )
    gpu_memory_fraction: float = _setting(
        1.0, "Part of a CUDA or ROCm device's memory that this process may take.", *_within(0.01, 1)
    )
    embed_batch: int = _setting(256, "Passages embedded and stored together by `add`.", *_within(1, 65536))


@dataclass(frozen=True)
class RetrievalConfig(_Section):
    """How documents are cut and found again."""

    top_k: int = _setting(5, "Passages returned by recall; ask searches at least 10.", *_within(1, 1000))
    min_similarity: float | None = _setting(
        None,
        "Cosine below which recall abstains; unset uses the threshold measured for the encoder.",
        *_within(-1, 1),
    )
    bm25_k1: float = _setting(
        0.9,
        "How soon more of a word stops counting, when words score memories; 0 counts each once.",
        *_within(0, 100),
    )
    bm25_b: float = _setting(
        0.4, "How much long passages are held back when words score memories.", *_within(0, 1)
    )
    chunk_tokens: int = _setting(200, "Most tokens of a passage.", *_within(16, 8192))
    chunk_overlap: int = _setting(0, "Tokens a passage repeats from the one before.", *_within(0, 4096))


@dataclass(frozen=True)
class Config(_Section):
    """Everything a runtime is wired from."""

    models_dir: Path = _setting(lambda: _data_dir() / "models", "Folder of the pulled models.")
    skills_dir: Path = _setting(lambda: _data_dir() / "skills", "Folder of the skills that were learned.")
    model: ModelConfig = field(default_factory=ModelConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    performance: PerformanceConfig = field(default_factory=PerformanceConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Gather the settings of this process.

    Args:
        path: a YAML file used in place of the project file.
        environ: the environment, by default this process's.
        overrides: values by dotted name (`"storage.path"`), which win over all else; None is "not given".

    Returns:
        A validated configuration.

    Raises:
        ConfigurationError: a file cannot be read, or a setting is unknown, of the wrong type or out of range.
    """
    environ = os.environ if environ is None else environ
    user_file = Path(platformdirs.user_config_dir(APP_NAME)) / USER_FILE
    project_file = Path(path) if path is not None else Path(PROJECT_FILE)
    if path is not None and not project_file.is_file():
        raise ConfigurationError(f"configuration file {project_file}: not found; expected a YAML file")
    values: dict[str, _Given] = {}
    for file in (user_file, project_file):
        if file.is_file():
            values.update(_read_yaml(file))
    values.update(_from_environment(environ))
    for name, value in (overrides or {}).items():
        if value is not None:
            values[name] = _Given(value, f"setting `{name}`")
    for variable, near in misspelt_variables(environ):
        if variable not in _warned:
            _warned.add(variable)
            _log.warning("%s is no setting and has no effect; did you mean %s?", variable, near)
    return _build(values)


def describe_config() -> list[Setting]:
    """List the settings."""
    config = Config()
    rows = []
    for name, item in _leaves().items():
        section, _, leaf = name.rpartition(".")
        holder = getattr(config, section) if section else config
        default = getattr(holder, leaf)
        rows.append(Setting(name, _variable(name), default, item.metadata["doc"], item.metadata["expected"]))
    return rows


def misspelt_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Environment variables that name no setting but look as if they should, each with the nearest that does.

    Args:
        environ: the environment; variables of other tools, such as `AIOS_DATA`, are left alone.
    """
    known = [_variable(name) for name in _leaves()]
    strange = sorted(name for name in environ if name.startswith("AIOS_") and name not in known)
    if not strange:
        return []
    import difflib

    sections = tuple({_variable(name.partition(".")[0]) + "_" for name in _leaves() if "." in name})
    found = []
    for variable in strange:
        likeness = 0.0 if variable.startswith(sections) else _LIKE
        found += [(variable, near) for near in difflib.get_close_matches(variable, known, 1, likeness)]
    return found


@shared_cache
def _type_hints(section: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(section)


@shared_cache
def _leaves() -> dict[str, Any]:
    """The field of every setting by its dotted name."""
    found: dict[str, Any] = {}
    hints = _type_hints(Config)
    for item in fields(Config):
        if is_dataclass(hints[item.name]):
            found.update({f"{item.name}.{leaf.name}": leaf for leaf in fields(hints[item.name])})
        else:
            found[item.name] = item
    return found


def _variable(name: str) -> str:
    return "AIOS_" + name.replace(".", "_").upper()


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    """Only the variables of known settings: other `AIOS_*` variables belong to other tools."""
    given = ((name, _variable(name)) for name in _leaves())
    return {name: _Given(environ[variable], variable) for name, variable in given if environ.get(variable)}


def _read_yaml(file: Path) -> dict[str, _Given]:
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"configuration file {file}: cannot be read as YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"configuration file {file}: expected a mapping of settings, got {type(document).__name__}"
        )
    values: dict[str, Any] = {}
    sections = {name.partition(".")[0] for name in _leaves() if "." in name}
    for name, value in document.items():
        if name in sections:
            if not isinstance(value, dict):
                raise ConfigurationError(
                    f"configuration file {file}: `{name}` expects a mapping, got {value!r}"
                )
            values.update({f"{name}.{leaf}": inner for leaf, inner in value.items()})
        else:
            values[str(name)] = value
    for name in values:
        if name not in _leaves():
            raise ConfigurationError(f"configuration file {file}: {_unknown(name)}")
    return {name: _Given(value, f"{file}: {name}") for name, value in values.items()}


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _leaves(), n=1)
    hint = f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(_leaves())}"
    return f"unknown setting `{name}`{hint}"


def _build(values: Mapping[str, _Given]) -> Config:
    arguments: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    hints = _type_hints(Config)
    for name, given in values.items():
        if name not in _leaves():
            raise ConfigurationError(_unknown(name))
        section, _, leaf = name.rpartition(".")
        hint = _type_hints(hints[section])[leaf] if section else hints[leaf]
        # Checked here and not only by its section, which does not know where the value was given.
        value = _validated(given.where, _leaves()[name], hint, given.value)
        (sections.setdefault(section, {}) if section else arguments)[leaf] = value
    for section, inner in sections.items():
        arguments[section] = hints[section](**inner)
    return Config(**arguments)


def _validated(where: str, item: Field[Any], hint: Any, value: Any) -> Any:
    """A value in the type and range of its field."""
    value = _coerce(where, value, hint)
    check = item.metadata.get("check")
    if check is not None and value is not None and not check(value):
        raise ConfigurationError(f"{where}: expected {item.metadata['expected']}, got {value!r}")
    return value


def _coerce(where: str, value: Any, hint: Any) -> Any:
    """Turn a YAML value or an environment string into the type of its field, or refuse it."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None or value == "":
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
    elif hint is Path and isinstance(value, str | os.PathLike) and str(value):
        return Path(value).expanduser()
    elif hint is str and isinstance(value, str | os.PathLike):
        return str(value)
    elif hint in (int, float) and not isinstance(value, bool):
        try:
            number = hint(value)
        except (TypeError, ValueError):
            number = None
        if number is not None and number == number and (isinstance(value, str) or number == value):
            return number
    expected = getattr(hint, "__name__", str(hint))
    raise ConfigurationError(f"{where}: expected {expected}, got {value!r}")
