"""Chat templates: Jinja with the conventions of Hugging Face, in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser

from ai_os_diffusion.inference.template_sandbox import BoundedEnvironment, budget
from ai_os_diffusion.utils.errors import TokenizerError

__all__ = ["render_chat_template"]


def render_chat_template(source: str, variables: Mapping[str, Any]) -> str:
    """Write a conversation through a template.

    Args:
        source: the Jinja source.
        variables: `messages`, `add_generation_prompt`, `tools`, special tokens and whatever else the
            template reads.

    Raises:
        TokenizerError: the template is not valid Jinja, fails, refuses the conversation, or exceeds the
            sandbox's bounds; the message names the line.
    """
    try:
        with budget():
            return _compiled(source).render(variables)
    except jinja2.TemplateSyntaxError as error:
        raise TokenizerError(f"chat template, line {error.lineno}: {error.message}") from error
    except RecursionError as error:
        raise TokenizerError("chat template: its macros call each other without end") from error
    except Exception as error:
        line = _template_line(error.__traceback__)
        reason = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
        raise TokenizerError(f"chat template{f', line {line}' if line else ''}: {reason}") from error


class _GenerationTag(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here its body is just written."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=1)
def _environment() -> BoundedEnvironment:
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, LoopControlExtension]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


@lru_cache(maxsize=16)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _template_line(traceback: TracebackType | None) -> int | None:
    """Line of the innermost frame inside the template: Jinja rewrites tracebacks to its lines."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
