"""Conversations with a runtime whose model echoes, and whose window is counted in letters."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from ai_os_diffusion.answers.answer import Answer, Citation, Statement
from ai_os_diffusion.evolution import Route
from ai_os_diffusion.runtime.conversation import Conversation, Reply
from ai_os_diffusion.utils.errors import InferenceError, ModelNotFoundError, TrainingError

KNOWN = {"known": ("It is so.", 0.9)}


class Written(list):
    """What a model writes: pieces, then the whole."""

    @property
    def generation(self):
        return "".join(self)


class EchoRuntime:
    decoder = searched = reader = object()

    def __init__(self, *, has_store=False, window=1000, remembers=None):
        self.has_store, self.window, self.remembers = has_store, window, remembers or {}
        self.asked = []
        self.seen, self.used, self.routes, self.skill = [], [], {}, None
        self.considered, self.corrected = [], []

    @property
    def skills(self):
        return SimpleNamespace(using=self.using, consider=self.considered.append, correct=self.correct)

    def correct(self, question, answer, **values):
        self.corrected.append((question, answer, values))

    @contextmanager
    def using(self, question):
        self.skill = self.routes.get(question)
        yield self.skill
        self.skill = None

    def generate(self, messages, **settings):
        self.used.append(self.skill and self.skill.skill)
        self.seen.append(([turn["content"] for turn in messages], settings))
        if sum(len(turn["content"]) for turn in messages) > self.window:
            raise InferenceError("too long")
        return Written(["re: ", messages[-1]["content"]])

    def ask(self, question, before=None):
        self.asked.append((question, before))
        text, confidence = self.remembers.get(question, ("", 0.1))
        stands = Citation("a.md", 1, 1, None, "m", 0.9, (), text)
        statements = (Statement(text, (stands,), confidence),) if text else ()
        return Answer(question, statements, (), 0.9, 0.4, "reader", confidence)


def said(conversation, message):
    *pieces, reply = conversation.reply(message)
    assert isinstance(reply, Reply)
    assert reply.text == "".join(pieces)
    return reply


def test_the_model_hears_the_turns_before():
    runtime = EchoRuntime()
    conversation = Conversation(runtime, max_tokens=7, temperature=0.5)
    assert not conversation.from_memory
    for message in ("one", "two"):
        reply = said(conversation, message)
        assert (reply.answer, reply.declined) == (None, False)
        assert reply.to_dict()["origin"] == "not from your documents"
    assert runtime.seen[-1] == (["one", "re: one", "two"], {"max_tokens": 7, "temperature": 0.5})


def test_the_model_uses_the_skill_that_a_message_belongs_to():
    runtime = EchoRuntime()
    boats = SimpleNamespace(name="boats")
    runtime.routes = {"how deep?": Route(boats, 0.9, 0.5, "deep?"), "hello": Route(None, 0.1, 0.5, "deep?")}
    conversation = Conversation(runtime)
    replies = [said(conversation, message) for message in ("how deep?", "hello", "and you?")]
    assert [reply.skill for reply in replies] == ["boats", None, None]
    assert [reply.to_dict()["skill"] for reply in replies] == ["boats", None, None]
    assert runtime.used == [boats, None, None]


def test_old_turns_are_forgotten():
    runtime = EchoRuntime()
    conversation = Conversation(runtime)
    for number in range(20):
        said(conversation, str(number))
    assert runtime.seen[-1][0][0] == "13"
    assert len(runtime.seen[-1][0]) == 13


def test_turns_that_do_not_fit_the_window_are_left_behind():
    runtime = EchoRuntime(window=30)
    conversation = Conversation(runtime)
    for message in ("a" * 10, "b" * 10, "c"):
        said(conversation, message)
    assert runtime.seen[-1][0] == ["b" * 10, "re: " + "b" * 10, "c"]


def test_a_message_too_long_by_itself_costs_no_turn():
    runtime = EchoRuntime(window=30)
    conversation = Conversation(runtime)
    said(conversation, "one")
    with pytest.raises(InferenceError, match="too long"):
        said(conversation, "x" * 40)
    said(conversation, "two")
    assert runtime.seen[-1][0] == ["one", "re: one", "two"]


def test_a_reply_that_is_left_is_not_remembered():
    runtime = EchoRuntime()
    conversation = Conversation(runtime)
    left = conversation.reply("one")
    next(left)
    left.close()
    said(conversation, "two")
    assert runtime.seen[-1][0] == ["two"]


def test_memory_alone_answers_where_there_is_one():
    runtime = EchoRuntime(has_store=True, remembers=KNOWN)
    conversation = Conversation(runtime)
    assert conversation.from_memory
    assert said(conversation, "known").to_dict()["from_memory"] is True
    reply = said(conversation, "unknown")
    assert (reply.declined, reply.text) == (True, "")
    assert runtime.seen == []
    assert said(Conversation(runtime, from_memory=False), "unknown").answer is None


def test_a_message_may_refer_to_what_was_asked_and_answered_before_it():
    remembers = {"When does the train leave?": ("at ten", 0.8), "Who waters the roses?": ("Anna", 0.9)}
    conversation = Conversation(runtime := EchoRuntime(has_store=True, remembers=remembers))
    for message in (
        "And how long?",
        "When does the train leave?",
        "From where?",
        "Who waters the roses?",
        "So?",
    ):
        said(conversation, message)
    befores = [before and (before.question, before.answer) for _, before in runtime.asked]
    # A first question tells a subject though nothing answered it; later ones only where they were answered.
    assert befores == [
        None,
        ("And how long?", ""),
        ("When does the train leave?", "at ten"),
        ("When does the train leave?", "at ten"),
        ("Who waters the roses?", "Anna"),
    ]


def test_a_decoder_that_is_missing_shows_before_any_message():
    class Empty(EchoRuntime):
        @property
        def decoder(self):
            raise ModelNotFoundError("model 'smollm2' is not pulled")

    with pytest.raises(ModelNotFoundError):
        Conversation(Empty())
    assert said(Conversation(Empty(has_store=True, remembers=KNOWN)), "known").text == "It is so."


def test_a_correction_is_of_the_last_reply():
    runtime = EchoRuntime(has_store=True, remembers=KNOWN)
    conversation = Conversation(runtime)
    with pytest.raises(TrainingError, match="no reply to correct"):
        conversation.correct("so")
    said(conversation, "known")
    conversation.correct("so")
    said(conversation, "unknown")
    conversation.correct("not so")
    assert [row[:2] for row in runtime.corrected] == [("known", "so"), ("unknown", "not so")]
    assert runtime.corrected[0][2] == {"said": "It is so.", "uncertainty": pytest.approx(0.1), "skill": None}
    assert [answer.question for answer in runtime.considered] == ["known", "unknown"]
    runtime.routes = {"how deep?": Route(SimpleNamespace(name="boats"), 0.9, 0.5, "deep?")}
    conversation = Conversation(runtime, from_memory=False)
    said(conversation, "how deep?")
    conversation.correct("9 m")
    assert runtime.corrected[-1][2]["skill"] == "boats"
