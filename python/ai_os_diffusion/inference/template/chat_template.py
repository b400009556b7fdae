"""Chat templates: Jinja with the conventions of Hugging Face, bounded, every character of known origin.

A template comes with a model that a stranger made, and what it writes around comes from strangers too.
Jinja's parser reads it. Its tree is evaluated by `template.renderer`, which knows the types of JSON, the
language's own filters and methods and nothing else of Python, pays for every value before it is made, and
marks what the template itself wrote.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser

from ai_os_diffusion.inference.template.marked_text import MarkedText, trust
from ai_os_diffusion.inference.template.meter import Meter, TemplateLimitError
from ai_os_diffusion.inference.template.renderer import Renderer
from ai_os_diffusion.inference.template.values import (
    Function,
    Namespace,
    items_of,
    plain_data,
    size_of,
    text_of,
)
from ai_os_diffusion.utils.errors import TokenizerError

__all__ = ["render_chat_template", "trusted_ranges"]

_LONGEST_SOURCE = 1 << 17


def render_chat_template(
    source: str, variables: Mapping[str, Any], special_tokens: Mapping[str, str] | None = None
) -> str:
    """Write a conversation through a template.

    Args:
        source: the Jinja source.
        variables: `messages`, `add_generation_prompt`, `tools` and whatever else the template reads.
        special_tokens: further variables, which are the template's own words as its source is.

    Returns:
        The text. `trusted_ranges` tells what of it the template wrote.

    Raises:
        TokenizerError: the template is not valid Jinja, fails, refuses the conversation, or does more than
            a template needs; the message names the line.
    """
    if len(source) > _LONGEST_SOURCE:
        raise TokenizerError(f"chat template: {len(source)} characters, expected at most {_LONGEST_SOURCE}")
    renderer = None
    try:
        given = {name: plain_data(value, name) for name, value in variables.items()}
        meter = Meter(size_of(given))
        renderer = Renderer(meter)
        own = {name: trust(token) for name, token in (special_tokens or {}).items()}
        return renderer.render(_parsed(source), {**_globals(meter), **own, **_with_roles(given)})
    except TokenizerError:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise TokenizerError(f"chat template, line {error.lineno}: {error.message}") from error
    except RecursionError as error:
        raise TokenizerError(
            "chat template: its macros call each other without end, or its data nest too deep"
        ) from error
    except Exception as error:
        line = f", line {renderer.line}" if renderer and renderer.line else ""
        known = isinstance(error, jinja2.TemplateError | TemplateLimitError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        raise TokenizerError(f"chat template{line}: {reason}") from error


def trusted_ranges(text: str) -> list[tuple[int, int]]:
    """The ranges of a rendered text, in characters and in order, that the template itself wrote."""
    return list(text.trusted) if isinstance(text, MarkedText) else []


class _GenerationTag(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here its body is just written."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _parsed(source: str) -> nodes.Template:
    """The tree of a template, which nobody changes."""
    with _parsing:
        return _parse(source)


_parsing = threading.Lock()


@lru_cache(maxsize=16)
def _parse(source: str) -> nodes.Template:
    extensions = [_GenerationTag, LoopControlExtension]
    environment = jinja2.Environment(  # noqa: S701 - it only parses, and prompts are no HTML
        trim_blocks=True, lstrip_blocks=True, extensions=extensions
    )
    return environment.parse(source)


def _globals(meter: Meter) -> dict[str, Any]:
    def dictionary(*args: Any, **kwargs: Any) -> dict[Any, Any]:
        for value in args:
            meter.pay(len(items_of(value, meter)))
        return dict(*args, **kwargs)

    def strftime_now(pattern: str) -> str:
        # The C library pads as far as a pattern says, within this.
        meter.pay(256 * len(pattern))
        return datetime.now().astimezone().strftime(str(pattern))

    def raise_exception(message: Any) -> None:
        raise jinja2.TemplateError(text_of(message, meter))

    functions: dict[str, Callable[..., Any]] = {
        "dict": dictionary,
        "namespace": Namespace,
        "raise_exception": raise_exception,
        "range": range,
        "strftime_now": strftime_now,
    }
    return {name: Function(name, call) for name, call in functions.items()}


def _with_roles(given: dict[str, Any]) -> dict[str, Any]:
    """The variables, where the role of a message is a word of the template.

    Templates write control tokens with it, as in `<|` + role + `|>`. A role of more than one word is foreign.
    """
    messages = given.get("messages")
    for message in messages if isinstance(messages, list | tuple) else ():
        role = message.get("role") if isinstance(message, dict) else None
        if isinstance(role, str) and role.isidentifier():
            message["role"] = trust(role)
    return given
