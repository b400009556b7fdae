"""The settings of sentence-transformers: modules, pooling, window, prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.convert.settings.head import score_scale
from ai_os_diffusion.models.convert.settings.known_settings import (
    CROSS_ENCODER,
    CROSS_ENCODER_MODULE,
    DROPOUT,
    MODULE,
    NORMALIZE,
    POOLING,
    SENTENCE_BERT,
    SENTENCE_TRANSFORMERS,
    TRANSFORMER_ARGUMENTS,
)
from ai_os_diffusion.models.convert.settings.settings_check import check_settings
from ai_os_diffusion.models.untrusted_values import (
    UntrustedValues,
    read_document,
    read_values,
    sections,
    shown,
)
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.clean_name import is_clean_path

__all__ = ["SentenceSettings", "transformer_folder"]

_MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
"""sentence-transformers' names of poolings to ours."""

_MODE_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""One flag for each, as written before version 5.4."""

_CONFIG_NAMES = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
_ARGUMENT_SECTIONS = (
    *("model_args", "tokenizer_args", "config_args"),
    *("model_kwargs", "processor_kwargs", "config_kwargs"),
)
_SENTENCES, _PAIRS = "last_hidden_state", "logits"
"""What of a network's results is used."""

_MAX_MODULES = 64
_MAX_PROMPTS = 1 << 12


def transformer_folder(folder: Path) -> Path:
    """Where the network and its tokenizer lie: in the folder, or in one of a module as old files have it.

    Raises:
        ModelLoadError: modules.json is damaged, or does not begin with a network.
    """
    modules = _modules(folder)
    return modules[0][1] if modules else folder


@dataclass(slots=True)
class SentenceSettings:
    """What a folder says about turning texts into vectors.

    Attributes:
        folder: the model's.
        tokenizer: its tokenizer_config.json.
        hidden_size: numbers of a token's state.
        remarks: on settings that are not known.
    """

    folder: Path
    tokenizer: UntrustedValues
    hidden_size: int
    remarks: list[str] = field(default_factory=list)

    def metadata(self, positions: int) -> dict[str, Any]:
        """The entries of metadata.json.

        Args:
            positions: most tokens that the network takes.

        Raises:
            ModelLoadError: a setting cannot be applied; it is named.
        """
        if self.is_reranker:
            return self._reranker(positions)
        settings = self._pooling()
        arguments = self._arguments()
        settings["max_seq_length"] = self._window(arguments, positions)
        settings.update(self._sentence_model(is_normalized=settings.get("normalize", True)))
        return settings

    @property
    def lowercases(self) -> bool:
        """Whether texts are lower-cased before the tokenizer's own steps."""
        return self._arguments().flag("do_lower_case", False)

    @property
    def has_modules(self) -> bool:
        """Whether the folder says which modules make a vector of a text."""
        return (self.folder / "modules.json").exists()

    @property
    def is_reranker(self) -> bool:
        """Whether the folder says that its network scores pairs of texts."""
        return bool(self._model_config().get("model_type") == "CrossEncoder")

    def _model_config(self) -> UntrustedValues:
        return read_optional(self.folder / "config_sentence_transformers.json")

    def _reranker(self, positions: int) -> dict[str, Any]:
        modules, values = _modules(self.folder), self._model_config()
        if len(modules) > 1:
            raise ModelLoadError(
                f"{self.folder}/modules.json: {len(modules)} modules, expected the network alone"
            )
        self.remarks += check_settings(values, CROSS_ENCODER)
        settings: dict[str, Any] = {"max_seq_length": self._window(self._arguments(), positions)}
        if "activation_fn" in values:
            settings["score_scale"] = score_scale(values, "activation_fn")
        return settings

    def _pooling(self) -> dict[str, Any]:
        modules = _modules(self.folder)
        if not modules:
            return {}
        settings: dict[str, Any] = {"normalize": False}
        for kind, place in modules[1:]:
            values = _module_config(place)
            if kind == "Pooling":
                if "pooling" in settings:
                    raise ModelLoadError(f"{values.place}: a second pooling; expected one")
                check_settings(values, POOLING)
                settings["pooling"] = _mode(values)
                if not values.flag("include_prompt", True):
                    settings["include_prompt"] = False
            elif "pooling" not in settings:
                raise ModelLoadError(
                    f"{self.folder}/modules.json: {kind} stands before the pooling, expected it behind"
                )
            else:
                check_settings(values, NORMALIZE if kind == "Normalize" else DROPOUT)
                settings["normalize"] |= kind == "Normalize"
        if "pooling" not in settings:
            raise ModelLoadError(f"{self.folder}/modules.json: no pooling; expected one")
        return settings

    def _arguments(self) -> UntrustedValues:
        """The arguments of the module that holds the network."""
        place = transformer_folder(self.folder)
        for name in _CONFIG_NAMES:
            values = read_optional(place / name)
            if values.values:
                check_settings(values, CROSS_ENCODER_MODULE if self.is_reranker else SENTENCE_BERT)
                for key in _ARGUMENT_SECTIONS:
                    check_settings(values.section(key), TRANSFORMER_ARGUMENTS)
                output = _PAIRS if self.is_reranker else _SENTENCES
                text_only = {"text": {"method": "forward", "method_output_name": output}}
                if values.get("modality_config", text_only) != text_only:
                    raise values.refusal("modality_config", f"{text_only}: texts would be read another way")
                return values
        return UntrustedValues(str(place / _CONFIG_NAMES[0]), {})

    def _window(self, arguments: UntrustedValues, positions: int) -> int:
        """Its own setting, else the tokenizer's; never more than the network takes."""
        if "max_seq_length" in arguments:
            return min(arguments.integer("max_seq_length", high=1 << 40), positions)
        key = "model_max_length" if "model_max_length" in self.tokenizer else "max_len"
        # Without a limit, transformers writes the largest it can: 10^30, in older versions as a float.
        window = self.tokenizer.number(key, float(positions), low=1, high=1e31)
        return min(int(window), positions)

    def _sentence_model(self, *, is_normalized: bool) -> dict[str, Any]:
        values = self._model_config()
        self.remarks += check_settings(values, SENTENCE_TRANSFORMERS)
        if values.text("model_type", "SentenceTransformer") != "SentenceTransformer":
            raise values.refusal(
                "model_type", "'SentenceTransformer': another kind of results would be computed"
            )
        similarity = values.text("similarity_fn_name", "cosine")
        if similarity != "cosine" and not (is_normalized and similarity in ("dot", "dot_score")):
            raise values.refusal("similarity_fn_name", "'cosine': memories are compared by their angle")
        settings: dict[str, Any] = {"prompts": _prompts(values)}
        default = values.maybe_text("default_prompt_name")
        if default is not None:
            if default not in settings["prompts"]:
                raise values.fault("default_prompt_name", f"one of {', '.join(settings['prompts'])}")
            settings["default_prompt_name"] = default
        if "truncate_dim" in values:
            settings["truncate_dim"] = values.integer("truncate_dim", high=self.hidden_size)
        return settings


def read_optional(path: Path) -> UntrustedValues:
    """The object in a JSON file; an empty one where there is no file."""
    try:
        return read_values(path)
    except FileNotFoundError:
        return UntrustedValues(str(path), {})


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each module, in the order they are computed; the first is the network."""
    path = folder / "modules.json"
    try:
        document = read_document(path)
    except FileNotFoundError:
        return []
    if not isinstance(document, list) or len(document) > _MAX_MODULES:
        raise ModelDamagedError(
            f"{path}: {shown(document)}, expected a list of at most {_MAX_MODULES} modules"
        )
    modules: list[tuple[str, Path]] = []
    for values in sections(str(path), document):
        check_settings(values, MODULE)
        place = values.text("path", "")
        if place and not is_clean_path(place):
            raise values.fault("path", "the name of a folder beside it")
        modules.append((_kind(values, is_first=not modules), folder / place))
    return modules


def _kind(values: UntrustedValues, *, is_first: bool) -> str:
    """The class of a module, which sentence-transformers has under several paths."""
    expected = ["Transformer"] if is_first else ["Pooling", "Normalize", "Dropout"]
    package, _, kind = values.text("type").rpartition(".")
    if package.split(".")[0] != "sentence_transformers" or kind not in expected:
        raise values.refusal("type", f"sentence_transformers' {' or '.join(expected)}: cannot run the module")
    return kind


def _module_config(place: Path) -> UntrustedValues:
    """A Normalize module of older versions has no configuration."""
    return read_optional(place / "config.json")


def _mode(values: UntrustedValues) -> str:
    if not values.values:
        raise ModelNotFoundError(f"{values.place}: not found, or empty; expected the pooling's configuration")
    named = values.get("pooling_mode")
    if named is None:
        named = [mode for flag, mode in _MODE_FLAGS.items() if values.flag(flag, False)] or ["mean"]
    modes = named if isinstance(named, list) else [named]
    if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in _MODES:
        raise ModelLoadError(
            f"{values.place}: pooling_mode is {shown(named)}, expected one of {', '.join(_MODES)}"
        )
    return _MODES[modes[0]]


def _prompts(values: UntrustedValues) -> dict[str, str]:
    given: Mapping[str, Any] = values.section("prompts").values
    if len(given) > _MAX_PROMPTS:
        raise ModelDamagedError(f"{values.place}: {len(given)} prompts, expected at most {_MAX_PROMPTS}")
    # An empty text is a prompt too; null is none.
    texts = values.section("prompts")
    named = {name: texts.text(name) for name in given if name in texts}
    # The names that encode_document looks for, in sentence-transformers' order.
    document = next((named[name] for name in ("document", "passage", "corpus") if name in named), "")
    return {"query": "", **named, "document": document}
