"""Writes docs/reference/settings.md from the settings themselves."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from ai_os_diffusion.config import Setting, describe_config

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"

HEAD = """# Settings

Highest first: a flag of the command line; the environment; `aios.yaml` in the working folder (or the file
that `--config` names); `config.yaml` in the user's configuration folder; the default. A file holds sections:

    storage:
      path: ~/memories
    retrieval:
      top_k: 8

DATA is the user's data folder of this system, on Linux `~/.local/share/aios`. `scripts/settings_page.py`
writes this page.

| setting | variable | default | what it does |
|---|---|---|---|
"""


def render() -> str:
    """The page."""
    return HEAD + "".join(map(_row, describe_config()))


def _row(setting: Setting) -> str:
    expected = f" Expected: {setting.expected}." if setting.expected else ""
    return f"| `{setting.name}` | `{setting.variable}` | {_default(setting)} | {setting.doc}{expected} |\n"


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "unset"
    if isinstance(setting.default, Path):
        data = Path(platformdirs.user_data_dir("aios"))
        return f"DATA/{setting.default.relative_to(data).as_posix()}"
    return f"`{setting.default}`"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(PAGE)
