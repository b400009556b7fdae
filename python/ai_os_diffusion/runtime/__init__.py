"""The composition root: settings in, engines and store out, wired for the jobs of this program."""

from __future__ import annotations

from ai_os_diffusion.runtime.runtime import Runtime, open_runtime

__all__ = ["Runtime", "open_runtime"]
