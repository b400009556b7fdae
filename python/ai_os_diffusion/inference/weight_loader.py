"""Weight files as mappings of name to tensor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.inference.quantization_schema import BFloat16Tensor, QuantizedTensor, tensor_view
from ai_os_diffusion.models.contents import MAX_DESCRIPTION_BYTES
from ai_os_diffusion.utils.errors import (
    ConfigurationError,
    ModelDamagedError,
    ModelNotFoundError,
)
from ai_os_diffusion.utils.files.regular_file import read_json
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["LazyWeightDict", "WeightLoader", "WeightMap", "inspect_model"]

logger = get_logger(__name__)

WEIGHTS_FILE = "weights.parquet"


class WeightMap(Mapping[str, Any]):
    """Tensors as their file holds them; each access makes a view, none makes a copy.

    float32 and float16 are NumPy arrays, others `BFloat16Tensor` and `QuantizedTensor`. Writing
    through a view fails. The file stays mapped while the mapping or one of its views lives.
    """

    def __init__(self, native: WeightFile, framework: str = "numpy") -> None:
        self.native = native
        self._names = dict.fromkeys(native.names)
        self._framework = framework

    def __getitem__(self, name: str) -> Any:
        view = tensor_view(self.native, name)
        if self._framework == "numpy" or isinstance(view, QuantizedTensor):
            return view
        return _to_torch(view)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.native!r})"


class LazyWeightDict(WeightMap):
    """Tensors as float32, dequantised when first asked for and kept until unloaded.

    A tensor stored as float32 is a view of the file, so it takes no room in the cache.
    """

    def __init__(self, native: WeightFile, framework: str = "numpy") -> None:
        super().__init__(native, framework)
        self._cache: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Any:
        with self._lock:
            if name in self._cache:
                return self._cache[name]
        value = self._load(name)
        with self._lock:
            return self._cache.setdefault(name, value)

    def _load(self, name: str) -> Any:
        info = self.native.info(name)
        if info["quant_type"] is None and info["dtype"] == "float32":
            values: NDArray[Any] = self.native.plain(name)
        else:
            values = self.native.dequantize(name)
            values.setflags(write=False)
        return values if self._framework == "numpy" else _to_torch(values)

    def cached(self) -> list[str]:
        """Names of the tensors in the cache."""
        with self._lock:
            return list(self._cache)

    def unload(self, name: str) -> None:
        """Forget a tensor; the next access loads it again."""
        with self._lock:
            self._cache.pop(name, None)

    def clear_cache(self) -> None:
        """Forget all tensors."""
        with self._lock:
            self._cache.clear()

    def get_cache_size_mb(self) -> float:
        """Memory of the cached copies, in MB of 10^6 bytes."""
        with self._lock:
            values = list(self._cache.values())
        return float(sum(value.nbytes for value in values if _is_copy(value))) / 1e6


class WeightLoader:
    """Opens a weight file or a model folder.

    Opening reads the footer and maps the file; its time and memory do not depend on the model's size.
    Files of other Parquet writers are decoded into memory instead.

    Example:
        >>> weights = WeightLoader("models/minilm").load_weights()  # doctest: +SKIP
        >>> weights["encoder.layer.0.output.dense.weight"].dequantize()  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], lazy: bool = False, framework: str = "numpy") -> None:
        """Open the file.

        Args:
            path: `weights.parquet`, or the folder it lies in.
            lazy: `load_weights` gives a `LazyWeightDict`, whose values are float32.
            framework: `numpy`, or `torch` for tensors (copies, for torch has no read-only ones).

        Raises:
            ModelLoadError: there is no such file or folder.
            WeightError: the file is damaged or of an unknown version.
            ConfigurationError: an unknown framework, or torch is not installed.
        """
        if framework not in ("numpy", "torch"):
            raise ConfigurationError(f"framework: expected numpy or torch, got {framework!r}")
        if framework == "torch":
            _import_torch()
        self.path = weights_path(path)
        self.lazy = lazy
        self._native = WeightFile(self.path)
        if not self._native.zero_copy:
            logger.debug("%s: decoded into memory; convert it to have it mapped", self.path)
        self._weights = (LazyWeightDict if lazy else WeightMap)(self._native, framework)

    def load_weights(self) -> WeightMap:
        """All tensors by name."""
        return self._weights

    def verify(self, progress: Callable[[int], object] | None = None) -> int:
        """Read all weights and compare them with the checksums written beside them.

        Opening a file does not: that would read all of it.

        Args:
            progress: called with the bytes checked so far.

        Returns:
            How many tensors carry a checksum: all of a file of ours, none of another writer's.

        Raises:
            WeightError: a tensor, which is named, is not what was written.
        """
        return self._native.verify(progress)

    def get_layer(self, name: str) -> Any:
        """One tensor.

        Raises:
            KeyError: there is none of that name.
        """
        return self._weights[name]

    def get_layer_names(self) -> list[str]:
        """Names in the order of the file."""
        return list(self._weights)

    def get_metadata(self) -> dict[str, str]:
        """Key-value metadata of the file."""
        return self._native.metadata

    def get_schema_version(self) -> int:
        """1 for plain weights, 2 with columns of quantisation."""
        return self._native.schema_version

    def get_cached_layers(self) -> list[str]:
        """Names of the tensors a lazy loader holds; always empty without `lazy`, for views hold nothing."""
        return self._weights.cached() if isinstance(self._weights, LazyWeightDict) else []

    def unload_layer(self, name: str) -> None:
        """Forget a tensor of the lazy cache."""
        self.unload_layers([name])

    def unload_layers(self, names: Iterable[str]) -> None:
        """Forget tensors of the lazy cache."""
        if isinstance(self._weights, LazyWeightDict):
            for name in names:
                self._weights.unload(name)

    def clear_cache(self) -> None:
        """Forget all tensors of the lazy cache."""
        if isinstance(self._weights, LazyWeightDict):
            self._weights.clear_cache()

    def get_cache_size_mb(self) -> float:
        """Memory of the lazy cache, in MB of 10^6 bytes."""
        return self._weights.get_cache_size_mb() if isinstance(self._weights, LazyWeightDict) else 0.0


def weights_path(path: str | os.PathLike[str]) -> Path:
    """The weight file of a folder, or the file itself.

    Raises:
        ModelNotFoundError: there is none.
    """
    found = Path(path)
    if found.is_dir():
        found = found / WEIGHTS_FILE
    if not found.is_file():
        raise ModelNotFoundError(
            f"{found}: not found; expected a model folder with {WEIGHTS_FILE}, or a weight file"
        )
    return found


def inspect_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a model folder or weight file.

    Returns:
        `path`, `size_bytes`, `schema_version`, `zero_copy`, `num_params`, `bits_per_weight` (of the whole
        file), `file_metadata`, `metadata` (of metadata.json; empty without), `card` (what a card says of
        itself; empty of other files), and `tensors`: a list of
        `name`, `shape`, `dtype`, `quant_type`, `num_params`, `size_bytes`, `bits_per_weight`, and for
        quantised ones `group_size`, `packing`, `scale_dtype`, `zero_point`.

    Raises:
        ModelLoadError: there is no such file, or metadata.json is unreadable.
        WeightError: the file is damaged.
    """
    file_path = weights_path(path)
    file = WeightFile(file_path)
    tensors = [file.info(name) for name in file.names]
    for tensor in tensors:
        tensor["bits_per_weight"] = tensor["size_bytes"] * 8 / max(tensor["num_params"], 1)
    num_params = sum(tensor["num_params"] for tensor in tensors)
    description = file_path.with_name("metadata.json")
    metadata: dict[str, Any] = {}
    if description.is_file():
        metadata = read_json(description, MAX_DESCRIPTION_BYTES, ModelDamagedError)
        if not isinstance(metadata, dict):
            raise ModelDamagedError(f"{description}: expected a JSON object, got {type(metadata).__name__}")
    return {
        "path": str(file_path),
        "size_bytes": file.size_bytes,
        "schema_version": file.schema_version,
        "zero_copy": file.zero_copy,
        "num_params": num_params,
        "bits_per_weight": file.size_bytes * 8 / max(num_params, 1),
        "file_metadata": file.metadata,
        "metadata": metadata,
        "card": _card_description(file_path) if "card" in file.metadata else {},
        "tensors": tensors,
    }


def _card_description(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from ai_os_diffusion.models.cards import Card

    return asdict(Card(path).description)


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConfigurationError(
            "framework: torch is not installed; install `ai-os-diffusion[gpu]` or use numpy"
        ) from error
    return torch


def _to_torch(view: NDArray[Any] | BFloat16Tensor) -> Any:
    torch = _import_torch()
    if isinstance(view, BFloat16Tensor):
        return torch.from_numpy(view.bits.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(view.copy())


def _is_copy(value: Any) -> bool:
    """Whether a cached value has memory of its own, which is all but views of the file."""
    return not isinstance(value, np.ndarray) or not isinstance(value.base, WeightFile)
