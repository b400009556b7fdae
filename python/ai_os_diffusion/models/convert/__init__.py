"""Foreign models to model folders, one file a source format."""

from __future__ import annotations

from ai_os_diffusion.models.convert.converter import ConvertReport, convert_model

__all__ = ["ConvertReport", "convert_model"]
