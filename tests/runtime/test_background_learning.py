"""What is corrected is learned beside answering, and used from then on."""

from __future__ import annotations

import threading

import pytest

from ai_os_diffusion.config import load_config
from ai_os_diffusion.evolution import DecisionLog, Level
from ai_os_diffusion.runtime import open_runtime


@pytest.fixture
def runtime(tiny_encoder_dir, tiny_decoder_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("ai_os_diffusion.evolution.anchor._TEXTS", 8)
    overrides = {
        "skills_dir": tmp_path / "skills",
        "storage.path": tmp_path / "store",
        "model.encoder": tiny_encoder_dir,
        "model.decoder": tiny_decoder_dir,
    }
    with open_runtime(load_config(environ={}, overrides=overrides)) as opened:
        yield opened


def log_of(runtime):
    return DecisionLog(runtime.config.skills_dir)


def wait_for(is_there):
    for _ in range(600):
        if is_there():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it did not come")


def test_it_learns_what_comes_in_and_stops(runtime):
    with runtime.skills.learning(epochs=2) as background:
        runtime.skills.correct("Who wrote it?", "Ada", wordings=["By whom is it?"], skill="it")
        # It answers meanwhile.
        assert runtime.skills.using("Who wrote it?") is not None
        wait_for(lambda: background.decisions or background.error)
        assert background.error is None
        assert [one.skill for one in background.decisions][:1] == ["it"]
    assert {"L2", "rejected"} >= {one.decision for one in log_of(runtime).read()}
    assert not [thread for thread in threading.enumerate() if thread.name == "learning"]


def test_nothing_is_loaded_where_nothing_waits(runtime):
    with runtime.skills.learning() as background:
        pass
    assert (background.decisions, background.error) == ([], None)
    assert not runtime.config.skills_dir.exists()


def test_a_learning_that_is_stopped_goes_on(runtime):
    runtime.skills.correct("Who wrote it?", "Ada", skill="it")
    work = runtime.config.skills_dir / ".evolution"
    with runtime.skills.learning(epochs=100_000) as background:
        wait_for(lambda: (work / "lesson.json").exists() or background.error)
    assert background.error is None
    assert list(work.glob(".it.learning"))
    decided = len(log_of(runtime).read())
    assert runtime.skills.worker(epochs=2).run(is_stopped=lambda: True).is_broken_off
    assert len(log_of(runtime).read()) == decided, "it goes on with the same"


def test_skills_that_come_and_go_are_seen(runtime):
    from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer, remove_skill

    folder = runtime.config.skills_dir
    assert runtime.skills.router.cards == ()
    trainer = LoRATrainer(runtime.decoder, config=LoRAConfig(rank=2, anchor=0), folder=folder)
    trainer.train_qa([{"q": "Who?", "a": "Ada"}], "it", epochs=1)
    first = runtime.skills.router
    assert [card.name for card in first.cards] == ["it"]
    assert runtime.skills.router is first
    remove_skill("it", folder)
    assert runtime.skills.router.cards == ()


def test_what_is_uncertain_is_logged_and_what_is_not_leaves_no_trace(runtime):
    from ai_os_diffusion.answers.answer import Answer, Citation, Statement

    stands = Citation("a.md", 1, 1, None, "m", 0.9, (), "Ada wrote it.", 0, 3)
    for question, confidence, is_said in (
        ("sure?", 0.99, True),
        ("unknown?", None, True),
        ("unsure?", 0.1, True),
        ("nowhere?", 0.1, False),
    ):
        statements = (Statement("Ada", (stands,), confidence),) if is_said else ()
        runtime.skills.consider(Answer(question, statements, (), 0.9, 0.4, "reader", confidence))
    found = [(one.decision, one.inputs["situation"]["query"]) for one in log_of(runtime).read()]
    assert found == [(Level.UNCERTAIN.value, "unsure?"), (Level.RETRIEVE.value, "nowhere?")]


def test_a_log_that_cannot_be_written_stops_no_answer(runtime, caplog):
    from ai_os_diffusion.answers.answer import Answer

    runtime.config.skills_dir.write_text("no folder")
    runtime.skills.consider(Answer("where?", (), (), None, None, "reader"))
    assert "cannot be logged" in caplog.text
