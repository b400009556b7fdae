"""Our own model folder as a source, to be quantised another way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.models.convert.source import Codes, Description, SourceTensor
from ai_os_diffusion.models.metadata import FIRST_CONVERTER_VERSION, check_metadata
from ai_os_diffusion.models.untrusted_values import MAX_TOKENIZER_BYTES, UntrustedValues, read_values
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelNotFoundError, WeightError
from ai_os_diffusion.utils.files.regular_file import open_regular, read_regular

__all__ = ["ArrowFolder"]

_OWN_FILES = ("weights.parquet", "metadata.json")


class ArrowFolder:
    """A folder with `metadata.json`, `weights.parquet` and a tokenizer."""

    dropped: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        """Open the weights and compare them with their checksums.

        Raises:
            WeightError: the weight file is damaged; the tensor is named.
            ModelLoadError: a file is missing or damaged.
        """
        self.folder = folder
        open_regular(folder / "weights.parquet", None, WeightError).close()
        self._file = WeightFile(folder / "weights.parquet")
        # Opening reads no weights; a damaged one must not be written anew under a fresh checksum.
        self._file.verify()
        try:
            self._metadata = dict(read_values(folder / "metadata.json").values)
        except FileNotFoundError:
            raise ModelNotFoundError(
                f"{folder}: no metadata.json; expected a converted model folder"
            ) from None
        check_metadata(UntrustedValues(str(folder / "metadata.json"), self._metadata))
        self.tensors = [self._tensor(name) for name in self._file.names]

    @property
    def paths(self) -> Sequence[Path]:
        """The files read, for their checksums."""
        return [self.folder / name for name in _OWN_FILES]

    def describe(self) -> Description:
        """Carry everything over but what the new files will say; what an old converter did wrong stays so."""
        metadata = {
            "converter_version": FIRST_CONVERTER_VERSION,
            **{
                key: value for key, value in self._metadata.items() if key not in ("quantization", "contents")
            },
        }
        names = [path for path in self.folder.iterdir() if path.is_file() and path.name not in _OWN_FILES]
        files = {path.name: read_regular(path, MAX_TOKENIZER_BYTES, ModelDamagedError) for path in names}
        return Description(metadata, files)

    def _tensor(self, name: str) -> SourceTensor:
        info = self._file.info(name)
        shape = tuple(info["shape"])
        if info["quant_type"] is None:
            return SourceTensor(name, shape, info["dtype"], partial(self._file.plain, name), info["dtype"])
        bits = int(info["quant_type"].removeprefix("int"))
        return SourceTensor(
            name,
            shape,
            "float32",
            partial(self._file.dequantize, name),
            info["quant_type"],
            bits,
            info["group_size"],
            partial(self._read_codes, name, bits, info["group_size"]),
        )

    def _read_codes(self, name: str, bits: int, group_size: int) -> Codes:
        rows = self._file.info(name)["shape"][0]
        scales = _by_row(self._file.scales(name), rows)
        zeros = self._file.zero_points(name)
        zero_points = None if zeros is None else _by_row(zeros, rows)
        return Codes(self._file.unpacked_codes(name), scales, zero_points, bits, group_size)


def _by_row(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """[panels, groups, 16] to [n, groups]."""
    if values.ndim == 3:
        values = values.swapaxes(1, 2).reshape(-1, values.shape[1])[:rows]
    return np.ascontiguousarray(values)
