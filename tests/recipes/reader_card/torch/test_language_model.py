"""The recipe's Qwen2 beside the library's, and what is made of it."""

from __future__ import annotations

import math

import pytest


def said(theirs, tokens):
    """The library's log-probabilities behind each token, float[tokens, vocabulary]."""
    torch = pytest.importorskip("torch")
    with torch.inference_mode():
        return theirs(torch.tensor([tokens])).logits[0].log_softmax(-1)


def test_replies_are_those_of_the_library(tiny):
    theirs, model = tiny
    from generation import Replies

    begin, end = list(range(1, 12)), 299
    prompts = [[20, 21, 22], list(range(30, 47)), [50]]
    # So few are likely enough that the likeliest is always taken.
    replies = Replies(model, end, rows=4, slots=60, least=0.999)
    for prompt, (reply, likely) in zip(
        prompts, replies.sample(model.prefix(begin), prompts, 12, enough=2), strict=True
    ):
        tokens, wanted, logs = begin + prompt, [], []
        for _ in range(12):
            found = said(theirs, tokens)[-1]
            logs.append(found.max().item())
            tokens.append(int(found.argmax()))
            wanted.append(tokens[-1])
            if wanted[-1] == end:
                break
        assert reply == [token for token in wanted if token != end]
        assert likely == pytest.approx(sum(logs) / len(logs), abs=1e-3)


def test_too_many_prompts_are_refused(tiny):
    from generation import Replies

    replies = Replies(tiny[1], 299, rows=1, slots=128)
    with pytest.raises(ValueError, match="at most 1 prompts of 124 tokens, got 2 of 1"):
        replies.sample(tiny[1].prefix([1]), [[1], [2]], 4)


class _Letters:
    """A vocabulary of bytes."""

    begin, end = 290, 299

    def tokens(self, text):
        return list(text.encode())

    def turn(self, role, text):
        return [self.begin, *self.tokens(f"{role}\n{text}"), self.end, *self.tokens("\n")]

    def opened(self, role):
        return [self.begin, *self.tokens(f"{role}\n")]


def test_questions_of_a_passage_are_judged_as_if_each_stood_alone(tiny, asking):
    _, model = tiny
    from judge import Judge

    judge = Judge(model, _Letters(), asking / "asking.toml")
    text, questions = "A lamp burns.", ["does it burn?", "what colour?", "who made it"]
    together = judge.judge([("Short.", ["is it?"]), (text, questions)])
    assert [len(some) for some in together] == [1, 3]
    for question, one in zip(questions, together[1], strict=True):
        alone = judge.judge([(text, [question])])[0][0]
        assert one.yes == pytest.approx(alone.yes, abs=2e-3)
        assert one.likelihood == pytest.approx(alone.likelihood, abs=2e-3)


def test_the_judge_says_what_the_library_says(tiny, asking):
    theirs, model = tiny
    from judge import Judge

    letters = _Letters()
    judge = Judge(model, letters, asking / "asking.toml")
    laid = judge._laid("A lamp burns.", ["does it burn?"])
    tokens = judge.beginning + laid.tokens
    found = said(theirs, tokens)
    begin, end, _ = (place + len(judge.beginning) for place in laid.asked[0])
    likely = sum(found[place - 1, tokens[place]].item() for place in range(begin, end)) / (end - begin)
    yes, no = (math.exp(found[-1, ord(letter)].item()) for letter in "YN")
    judged = judge.judge([("A lamp burns.", ["does it burn?"])])[0][0]
    assert judged.likelihood == pytest.approx(likely, abs=2e-3)
    assert judged.yes == pytest.approx(yes / (yes + no), abs=2e-3)
