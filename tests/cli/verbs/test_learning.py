"""`aios learn` and `aios skills`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from ai_os_diffusion._native import WeightFile


@pytest.fixture
def learned(tiny_models, tmp_path, monkeypatch):
    """A file of pairs for a model of random weights, which needs no anchor."""
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 8)
    file = tmp_path / "facts.jsonl"
    pairs = [{"q": "Who wrote it?", "a": "Ada"}, {"q": "When was it?", "a": "1843"}]
    file.write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    return file


def test_a_skill_from_a_file_to_its_removal(aios, aios_json, learned):
    found = aios_json("learn", learned, "--test", learned, "--epochs", 3, "--name", "facts", "--no-gate")
    assert (found["name"], found["kind"], found["metrics"]["pairs"]) == ("facts", "skill", 2)
    assert found["asked"].keys() == {"as learned", "other wordings"}
    shares = dict.fromkeys(["right_before", "right_after", "f1_before", "f1_after"], 0)
    assert found["asked"]["as learned"] == {"questions": 2, **shares}
    assert [card["name"] for card in aios_json("skills")] == ["facts"]
    assert "facts" in aios("skills").stdout
    assert aios_json("skills", "show", "facts")["path"] == found["path"]
    assert "rank" in aios("skills", "show", "facts").stdout
    said = aios_json("skills", "ask", "--skill", "facts", "Who", "wrote", "it?")
    assert (said["question"], said["skill"]) == ("Who wrote it?", "facts")
    routed = aios_json("skills", "ask", "Who wrote it?")
    assert (routed["example"], routed["similarity"]) == ("Who wrote it?", pytest.approx(1, abs=1e-3))
    assert routed["skill"] == ("facts" if routed["similarity"] >= routed["threshold"] else None)
    assert "nearest to 'Who wrote it?'" in aios("skills", "ask", "Who wrote it?").stderr
    talk = aios("chat", "--no-memory", "--max-tokens", "4", input="Who wrote it?\n")
    assert "with the skill facts" in talk.stderr
    assert aios_json("learn", learned, "--name", "facts", code=1, error=True)["message"]
    assert aios_json("skills", "rm", "facts", "--dry-run")["size_bytes"] == found["size_bytes"]
    assert aios_json("evolve", "history") == []
    assert aios_json("skills", "rm", "facts", "--yes")["removed"] == ["facts"]
    assert aios_json("skills") == []
    assert [one["decision"] for one in aios_json("evolve", "history")] == ["removed"]
    assert "aios learn" in aios("skills").stderr


def test_the_table_of_before_and_after(aios, learned):
    shown = aios("learn", learned, "--epochs", 1, "--no-gate")
    assert shown.exit_code == 0, shown.output
    assert "before" in shown.stdout
    assert "as learned" in shown.stdout
    assert "facts" in shown.stdout


def test_a_control_from_a_file_to_its_removal(aios, aios_json, learned):
    how = ["--method", "control", "--width", 2, "--blocks", 1, "--epochs", 2]
    found = aios_json("learn", learned, *how, "--no-gate")
    assert (found["name"], found["kind"], found["rank"], found["side_width"]) == ("facts", "control", 0, 2)
    asked = found["asked"]["as learned"]
    # Built as expected is any text of one line.
    assert (asked["questions"], asked["right_before"]) == (2, 1)
    shown = aios("skills").stdout
    assert "control" in shown
    said = aios_json("skills", "ask", "--skill", "facts", "Who", "wrote", "it?")
    assert said["skill"] == "facts"
    assert aios_json("skills", "ask", "Who wrote it?")["skill"] is None
    assert aios_json("skills", "rm", "facts", "--yes")["removed"] == ["facts"]
    error = aios_json("learn", learned, *how, code=1, error=True)
    assert error["type"] == "SkillRejectedError"
    for strange in (["--rank", 4], ["--selective"], ["--dora"]):
        error = aios_json("learn", learned, "--method", "control", *strange, code=2, error=True)
        assert f"{strange[0]} is for --method lora" in error["message"]
    for strange in (["--width", 4], ["--blocks", 2]):
        error = aios_json("learn", learned, *strange, code=2, error=True)
        assert f"{strange[0]} is for --method control" in error["message"]
    error = aios_json("learn", learned, "--method", "control", code=1, error=True)
    assert "expected at most" in error["message"]


def test_wordings_that_say_when_to_stop_and_a_picture(aios_json, learned, tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "losses.html"
    found = aios_json("learn", learned, "--epochs", 9, "--no-gate", "--validation", learned, "--plot", plot)
    # Random weights learn nothing in so few steps: five looks behind the first.
    assert found["metrics"]["steps"] == 6
    assert "validation" in plot.read_text(encoding="utf-8")
    error = aios_json("learn", learned, "--name", "other", "--plot", tmp_path / "a.pdf", code=1, error=True)
    assert "expected a picture" in error["message"]


def test_other_wordings_that_the_model_writes(aios, aios_json, learned, tmp_path):
    found = aios_json("learn", learned, "--epochs", 1, "--no-gate", "--paraphrases", 2)
    assert found["metrics"]["pairs"] == 2
    (log,) = (Path(found["path"]).parent / ".paraphrases").iterdir()
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [row["question"] for row in rows] == ["Who wrote it?", "When was it?"]
    refused = aios("learn", learned, "--name", "more", "--paraphrases", 17)
    assert refused.exit_code == 1
    assert "paraphrases is 17" in refused.stderr


def test_what_helps_nothing_is_not_kept(aios, aios_json, learned):
    error = aios_json("learn", learned, "--epochs", 1, code=1, error=True)
    assert error["type"] == "SkillRejectedError"
    assert "facts: of 2 questions in other wordings 0 were right before and 0 with it" in error["message"]
    assert aios_json("skills") == []
    decided = aios_json("evolve", "history")
    assert [(one["skill"], one["decision"]) for one in decided] == [("facts", "rejected")]
    assert decided[0]["figures"]["right_after"] == 0
    assert "rejected" in aios("evolve", "history").stdout


def test_what_is_not_there_is_named(aios_json, tiny_models, tmp_path):
    assert "none.jsonl" in aios_json("learn", tmp_path / "none.jsonl", code=1, error=True)["message"]
    assert "learned are: none" in aios_json("skills", "show", "x", code=3, error=True)["message"]
    assert aios_json("skills", "ask", "--skill", "x", "Who?", code=3, error=True)["message"]
    assert aios_json("skills", "rm", "x", "--yes", code=3, error=True)["message"]


def test_an_encoder_learns_to_find(aios, aios_json, learned, tiny_encoder_dir):
    asked = ("learn", learned, "--model", tiny_encoder_dir, "--epochs", 2)
    found = aios_json(*asked, "--test", learned)
    assert (found["name"], found["mode"], found["metrics"]["pairs"]) == ("facts", None, 2)
    assert found["asked"].keys() == {"as learned", "other pairs"}
    assert found["asked"]["as learned"].keys() == {"queries", "found_before", "found_after"}
    assert [card["name"] for card in aios_json("skills")] == ["facts"]
    shown = aios(*asked, "--name", "again")
    assert shown.exit_code == 0, shown.output
    assert "as learned\t2\t" in shown.stdout
    for own, message in (
        (("--selective", "--rank", 16), "selected is 0.5, expected 1"),
        (("--validation", learned), "patience is 5, expected 0, and no validation"),
        (("--mode", "diffusion"), "objective is 'diffusion', expected 'contrastive'"),
    ):
        error = aios_json(*asked, "--name", "other", *own, code=1, error=True)
        assert message in error["message"]


def test_a_skill_for_diffusion_from_a_file(aios_json, learned, tiny_diffusion_dir):
    of_model = ("--model", tiny_diffusion_dir, "--mode", "diffusion")
    found = aios_json("learn", learned, "--epochs", 2, "--no-gate", *of_model)
    assert (found["name"], found["mode"]) == ("facts", "diffusion")
    said = aios_json("skills", "ask", "--skill", "facts", "Who wrote it?", *of_model)
    assert said["skill"] == "facts"
    rejected = aios_json("learn", learned, "--epochs", 1, "--name", "more", *of_model, code=1, error=True)
    assert rejected["type"] == "SkillRejectedError"
    error = aios_json("skills", "ask", "--skill", "facts", "Who wrote it?", code=1, error=True)
    assert "is for the mode 'diffusion' on the card 'tiny-diffusion'" in error["message"]
    error = aios_json("learn", learned, "--name", "other", "--mode", "diffusion", code=1, error=True)
    assert "learned on one card of that kind" in error["message"]


def test_another_trainer(aios_json, learned):
    error = aios_json("learn", learned, "--device", "cuda", "--trainer", "native", code=1, error=True)
    assert "the native trainer computes on the CPU" in error["message"]
    if importlib.util.find_spec("torch") is None:
        error = aios_json("learn", learned, "--trainer", "torch", code=1, error=True)
        assert "pip install 'ai-os-diffusion[train]'" in error["message"]
        return
    for name, trainer in (("ours", "native"), ("theirs", "torch")):
        asked = ("--epochs", 2, "--name", name, "--trainer", trainer, "--no-gate")
        found = aios_json("learn", learned, *asked)
        assert found["metrics"]["steps"] == 2


def test_lengths_and_directions_apart(aios_json, learned):
    found = aios_json("learn", learned, "--epochs", 2, "--no-gate", "--dora")
    names = WeightFile(found["path"]).names
    for ending in (".lora_magnitude_vector", ".lora_row_scale"):
        assert len([name for name in names if name.endswith(ending)]) * 4 == len(names)


def test_a_few_layers_of_a_high_rank(aios_json, learned):
    found = aios_json("learn", learned, "--epochs", 2, "--no-gate", "--selective", "--rank", 16)
    assert found["rank"] == 16
    with Path(found["path"]).open("rb") as file:
        assert file.read(4) == b"PAR1"
    usual = aios_json("learn", learned, "--epochs", 2, "--no-gate", "--name", "usual")
    assert usual["rank"] == 8
