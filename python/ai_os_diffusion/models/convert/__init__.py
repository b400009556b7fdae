"""Foreign models to model folders, one file a source format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.utils import imported_on_use

if TYPE_CHECKING:
    from ai_os_diffusion.models.convert.converter import ConvertReport, convert_model

__all__ = ["ConvertReport", "convert_model"]

__getattr__ = imported_on_use(
    {
        "ConvertReport": "models.convert.converter",
        "convert_model": "models.convert.converter",
    }
)
