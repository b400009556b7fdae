"""The page on extending runs as it stands: its code is executed, its commands name what is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guides/extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


def test_there_is_a_section_for_each_of_them():
    assert list(SECTIONS) == ["Add a family of networks", "Add a card", "Add a file format"]


def test_what_the_page_names_is_there():
    """Files and folders in back quotes, by the end of their path; the new file has a name in capitals."""
    rooms = [ROOT / "crates", ROOT / "python", ROOT / "tests", ROOT / "benchmarks", ROOT / "training"]
    there = [f"/{path.relative_to(ROOT).as_posix()}" for room in rooms for path in [room, *room.rglob("*")]]
    named = re.findall(r"`([\w./-]+(?:\.(?:py|rs)|/))`", PAGE)
    assert len(named) > 20
    missing = [name for name in named if not any(path.endswith(f"/{name}".rstrip("/")) for path in there)]
    assert [name for name in missing if "NAME" not in name] == []


def test_commands_run_what_is_there():
    lines = [line for section in SECTIONS for block in blocks(section, "sh") for line in block.splitlines()]
    assert len(lines) >= 6
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program in ("make", "aios", "cargo", ".venv/bin/python", ".venv-torch/bin/python")
        for path in arguments:
            if path.startswith(("tests/", "benchmarks/")):
                assert (ROOT / path).exists(), line


@pytest.fixture
def adapter(tiny_encoder_dir: Path, tmp_path: Path) -> Path:
    """An adapter of `peft` for the tiny encoder, as its `save_pretrained` writes it."""
    from safetensors.numpy import save_file

    folder = tmp_path / "adapter"
    folder.mkdir()
    width = json.loads((tiny_encoder_dir / "metadata.json").read_text(encoding="utf-8"))["hidden_size"]
    prefix = "base_model.model.encoder.layer.0.attention.self.query"
    random = np.random.default_rng(0)
    save_file(
        {
            f"{prefix}.lora_A.weight": random.normal(size=(4, width)).astype(np.float32),
            f"{prefix}.lora_B.weight": random.normal(size=(width, 4)).astype(np.float32),
        },
        folder / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_the_card_of_the_page_is_made_and_attached(adapter, tiny_encoder_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "about.json").write_text(*blocks("Add a card", "json"), encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "minilm").symlink_to(tiny_encoder_dir)
    monkeypatch.setenv("AIOS_MODELS_DIR", str(tmp_path / "models"))
    (command,) = blocks("Add a card", "sh")
    aios = Path(sys.executable).with_name("aios")
    _, *arguments = shlex.split(command)
    ran = subprocess.run([aios, *arguments], capture_output=True, text=True, env=os.environ, check=False)
    assert ran.returncode == 0, ran.stderr
    names: dict = {}
    (code,) = blocks("Add a card", "python")
    exec(code, names)
    assert np.abs(names["after"] - names["before"]).max() > 1e-4


def test_the_reader_of_the_page_reads_subtitles():
    names: dict = {}
    (code,) = blocks("Add a file format", "python")
    exec(code, names)
    reader = names["SubtitleReader"]("film.srt")
    first = "1\n00:00:01,000 --> 00:00:02,000\nGood morning.\nHow are you?\n"
    text = f"{first}\n2\n00:00:03,500 --> 00:00:04,000\nFine.\n"
    found = [(block.text, block.line, block.end_line) for block in [*reader.read(text, 11), *reader.end()]]
    assert found == [("Good morning.\nHow are you?", 13, 14), ("Fine.", 18, 19)]
    assert reader.take_remarks() == []
