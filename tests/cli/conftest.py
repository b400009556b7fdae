"""The program run in this process, on a store and models of its own."""

from __future__ import annotations

import json
import os
import sys

import pytest
from typer.testing import CliRunner

from ai_os_diffusion.cli.program import app


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user with no settings, no models and no memories."""
    for name in [name for name in os.environ if name.startswith("AIOS_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setenv("AIOS_STORAGE_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("AIOS_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tiny_models(home, monkeypatch, tiny_encoder_dir, tiny_decoder_dir, tiny_diffusion_dir):
    """All models are tiny ones of random weights."""
    monkeypatch.setenv("AIOS_MODEL_DIFFUSION", str(tiny_diffusion_dir))
    monkeypatch.setenv("AIOS_MODEL_ENCODER", str(tiny_encoder_dir))
    monkeypatch.setenv("AIOS_MODEL_DECODER", str(tiny_decoder_dir))
    return home


@pytest.fixture
def aios(home):
    """Run the program: `aios("recall", "a question")`; the result has exit_code, stdout and stderr."""
    runner = CliRunner()

    def run(*args, input=None):
        result = runner.invoke(app, [str(arg) for arg in args], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def aios_json(aios):
    """Run the program with --json; returns what it wrote, or the error it reported, read."""

    def run(*args, code=0, input=None, error=False):
        result = aios(*args, "--json", input=input)
        assert result.exit_code == code, result.output
        return json.loads(result.stderr)["error"] if error else json.loads(result.stdout)

    return run


@pytest.fixture
def command():
    """The program as a command line of its own process, which hears Ctrl-C even where the tests do not."""
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    return [sys.executable, "-c", f"{hear}; from ai_os_diffusion.cli.main import run; run()"]


@pytest.fixture
def documents(tmp_path):
    """A folder with a few documents, and what `add` must pass by."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "garden.md").write_text(
        "# Garden\n\n## Roses\nCut roses in March.\n\n# Meadow\n## Lawn\nMow it weekly.\n"
    )
    (folder / "trains.txt").write_text("The night train leaves at ten.\n")
    (folder / "tool.py").write_text('def mend(fence):\n    """Mend a fence."""\n    return fence\n')
    (folder / "old.txt").write_bytes("Öl kostet fünf Mark.\n".encode("cp1252"))
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "broken.jsonl").write_text("not json\n")
    (folder / ".hidden").write_text("secret")
    (folder / "empty.txt").write_text("")
    return folder
