"""Templates write what Jinja and transformers write."""
# ruff: noqa: E501

from __future__ import annotations

import itertools
import json

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ai_os_diffusion.inference.template.chat_template import render_chat_template
from ai_os_diffusion.utils.errors import TokenizerError

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

# One of each family of templates, in its manner.
FAMILIES = {
    "chatml": """
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "inst": """
{%- if messages[0]['role'] == 'system' %}
{%- set loop_messages = messages[1:] %}{% set system_message = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
{%- else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}
{%- for message in loop_messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- if loop.index0 == 0 and system_message != false %}{% set content = system_message + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}
{%- if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}
{%- endfor %}""",
    "headers and tools": """
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] | trim %}{% set messages = messages[1:] %}{% else %}{% set system_message = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + date_string + '\n' }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- '\n\n' }}
    {%- endfor %}
{%- endif %}
{{- system_message }}<|eot_id|>
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}{{ raise_exception('one call at once') }}{% endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- '}<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}
        {%- if message.content is mapping or message.content is iterable %}{{ message.content | tojson }}{% else %}{{ message.content }}{% endif %}
        {{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}""",
    "thinking": """
{%- if tools %}
    {{- '<|im_start|>system\n# Tools\n<tools>' }}
    {%- for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}
    {{- '\n</tools><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{% endif %}
{%- set ns = namespace(multi_step=true, last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = messages | length - 1 - loop.index0 %}
    {%- if ns.multi_step and message.role == 'user' and message.content is string and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step = false %}{% set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{% set content = message.content %}{% else %}{% set content = '' %}{% endif %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}{% set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}{{ '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' }}{% endif %}
        {{- content.lstrip('\n') }}
        {%- for tool_call in message.tool_calls or [] %}
            {%- if (loop.first and content) or (not loop.first) %}{{ '\n' }}{% endif %}
            {%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
            {{- '<tool_call>\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
            {%- if tool_call.arguments is string %}{{ tool_call.arguments }}{% else %}{{ tool_call.arguments | tojson }}{% endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or (messages[loop.index0 - 1].role != 'tool') %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\n<tool_response>\n' }}{{ content }}{{ '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}{{ '<|im_end|>\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}""",
    "roles in tokens": """
{%- for message in messages %}{% if message['content'] %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}{% endif %}
{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}""",
    "parts": """
{%- macro show(content) %}
    {%- if content is string %}{{ content | trim }}
    {%- elif content is iterable and content is not none %}
        {%- for item in content %}{% if item['type'] == 'text' %}{{ item['text'] | trim }}{% elif item.type == 'image' %}<image>{% endif %}{% endfor %}
    {%- endif %}
{%- endmacro %}
{%- for message in messages | rejectattr('role', 'equalto', 'developer') %}
{{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\n' ~ show(message.content) ~ '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}<start_of_turn>model
{% endif %}""",
    "macros of schemas": """
{%- macro kind(schema) %}
    {%- if schema.type == 'array' %}{{ kind(schema['items']) }}[]
    {%- elif schema.enum %}{{ '"' + schema.enum | join('" | "') + '"' }}
    {%- elif schema.type == 'object' %}{ {%- for key, value in schema.properties.items() %}{{ key }}{{ '?' if key not in (schema.required or []) else '' }}: {{ kind(value) }}{{ ', ' if not loop.last }}{% endfor %} }
    {%- else %}{{ schema.type or 'any' }}{% endif %}
{%- endmacro %}
{%- for tool in tools or [] %}type {{ tool.function.name }} = (_: {{ kind(tool.function.parameters) }}) => any;
{% endfor %}
{%- for message in messages %}{{ loop.cycle('odd', 'even') }} {{ message.role | upper }}: {{ (message.content or '') | replace('\n', ' ') | indent(2, true) }}
{% endfor %}""",
}

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Get <b>weather</b> & more",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                    "dates": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["city"],
            },
        },
    }
]
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "\nHé <b> 'x' \"y\" 你好\n"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}, {"role": "user", "content": "c\nd"}],
    [{"role": "user", "content": "w"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "12 °C"}, {"role": "assistant", "content": "cold"}],
    [{"role": "user", "content": "w"}, {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}],
    [{"role": "user", "content": [{"type": "text", "text": " one "}, {"type": "image"}, {"type": "text", "text": "two"}]}],
    [{"role": "developer", "content": "d"}, {"role": "user", "content": "e"}],
    [{"role": "assistant", "content": "f"}, {"role": "assistant", "content": "g", "reasoning_content": "because"}],
]  # fmt: skip
CASES = [
    {"messages": messages, "tools": tools, "add_generation_prompt": prompted, **extra}
    for messages, tools, prompted, extra in itertools.product(
        CONVERSATIONS, (None, TOOLS), (True, False), ({}, {"enable_thinking": False})
    )
]

# Filters, methods, tests and operators, over values of all types.
EXPRESSIONS = """
t | upper; t | lower; t | title; t | capitalize; t | trim; t | trim('a '); t | length; t | list; t | reverse; t | first; t | last
t | replace('a', 'bb'); t | replace('a', 'bb', 1); t | replace('', '-'); t | indent; t | indent(2, true); t | indent('> ', blank=true)
t | center(20); t | wordcount; t | truncate(5); t | truncate(5, true, '!', 0); t | e; t | urlencode; t | striptags; t | string; t | safe
t | int; '12' | int; '0x1f' | int(0, 16); 'x' | int(7); 3.9 | int; '3.5' | float; 'x' | float(1.5); 2.567 | round(2); 2.5 | round; 2.1 | round(0, 'ceil'); -3 | abs
t | tojson; d | tojson; d | tojson(indent=2); l | tojson(separators=(',', ':')); d | tojson(sort_keys=true); 'é' | tojson(ensure_ascii=true); none | tojson; 1.0 | tojson
l | join; l | join(', '); r | join(' ', attribute='n'); l | sort; l | sort(reverse=true); ['b', 'A', 'c'] | sort; ['b', 'A'] | sort(case_sensitive=true); r | sort(attribute='n') | map(attribute='n') | list
l | sum; r | sum(attribute='v'); l | max; l | min; r | max(attribute='v'); ['b', 'B', 'a'] | unique | list; l | batch(2) | list; l | batch(2, 0) | list; l | slice(2) | list; l | slice(2, 'x') | list
d | dictsort; d | dictsort(false, 'value'); d | items | list; d | length; d.items() | list; d.keys() | list; d.values() | list; d.get('a'); d.get('zz', 5); d['a']; d.a; d.zz is defined; 'a' in d; 'a' in d.keys(); d.copy()
r | groupby('g') | map('first') | list; r | groupby('g') | map(attribute='list') | map('length') | list; r | map(attribute='n') | list; r | map(attribute='zz', default='-') | list; l | map('string') | list; ['a'] | map('replace', 'a', 'b') | list
r | selectattr('v') | list; r | selectattr('n', 'equalto', 'x') | list; r | rejectattr('v', 'gt', 1) | map(attribute='n') | list; l | select('odd') | list; l | reject('odd') | list; [0, 1, ''] | select | list; l | select('in', [1]) | list
l | first; l | last; l[0]; l[-1]; l[99] is defined; l[1:]; l[::-1]; l[:2]; l + [9]; l * 2; l | reverse | list; 1 in l; 9 not in l; l.index(1); l.count(1); [] | first is defined; l | length
t.split(); t.split(' '); t.split(' ', 1); t.split('a'); t.rsplit(' ', 1); t.splitlines(); t.splitlines(true); t.partition(' '); t.rpartition(' '); t.strip(); t.lstrip(); t.rstrip('a '); t.upper(); t.title(); t.swapcase(); t.casefold(); t.capitalize()
t.startswith('a'); t.endswith(('a', ' ')); t.find('a'); t.rfind('a'); t.index('a'); t.count('a'); t.isdigit(); '7'.isdigit(); t.isspace(); t.replace('a', ''); t.replace('', '.'); t.zfill(30); t.ljust(30) ~ '|'; t.rjust(30); t.center(30) ~ '|'; 'a\\tb'.expandtabs(4); t.removeprefix('a'); t.removesuffix(' '); '-'.join(['a', 'b']); '-'.join(t)
t[0]; t[-1]; t[1:3]; t[::-1]; t[::2]; t[99] is defined; t ~ 1 ~ none ~ true ~ 1.5; t + 'x'; t * 2; 2 * t; 'a' in t; t == t; t != 'x'; 'a' < 'b'; 'ß' | upper; 'ŉß' | upper; 'İ' | lower
'%s-%05d-%.2f-%r-%x-%%' % ('a', 7, 1.5, 'q', 255); '%(a)s' % {'a': 1}; '%s' | format('a'); '%(a)s' | format(a=2); '{} {x} {}'.format(1, 2, x=3); '{0:>4}|{1:.2f}|{{}}'.format(1, 2.5); '{!r}'.format('a'); '%-4s|' % 'a'; '%s' % none; '%5s' % true
1 + 2 * 3; 7 // 2; 7 / 2; 7 % 3; 2 ** 8; -5; +5; 1 == 1.0; 1 < 2 < 3; 1 < 2 > 3; not 1; 1 and 0; 0 or 'x'; none or ''; true and 'y'; 'a' if 1; 'a' if 0; 'a' if 0 else 'b'; (1, 2); [1, 'a', none]; {'a': [1]}; 1.5e3; 10 | string | length; true + 1; 7 is odd; 7 is divisibleby 7
t is string; 1 is string; l is iterable; l is sequence; d is mapping; none is none; t is none; x is defined; x is undefined; x; x | default('q'); x | default; none | default('q'); '' | default('q', true); x | d('q'); 1 is number; 1.0 is float; true is boolean; 1 is integer; true is integer; true is true; 0 is false; t is sameas t; 1 is eq 1; 2 is gt 1; 1 is in l; t is lower; 'A' is upper; x is iterable; range is callable; 'upper' is filter; 'odd' is test
range(3) | list; range(1, 7, 2) | list; range(3) | length; 2 in range(3); dict(a=1); dict([('a', 1)]); namespace(a=1).a; messages is defined; t | attr('upper') is defined; 12345 | filesizeformat
"""
VALUES = {
    "t": ["", "a", "  a banana\tis\n\n a fruit \r\n", "Ünï ß 😀 a'b\"c <b>&</b> %s {}"],
    "l": [[3, 1, 2]],
    "d": [{"b": 1, "a": "é<", "C": 0}],
    "r": [[{"n": "x", "v": 1, "g": "p"}, {"n": "Y", "v": 2, "g": "q"}, {"n": "z", "v": 0, "g": "p"}]],
}


@pytest.fixture(scope="module")
def reference():
    """Jinja itself, set up as transformers does."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def refuse(message):
        raise jinja2.TemplateError(message)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    return environment


def written(render):
    """The text, or that there is none."""
    try:
        return render()
    except Exception:  # noqa: BLE001 - whatever it is, ours must fail too
        return None


def ours(source, variables):
    try:
        return str(render_chat_template(source, variables, SPECIAL))
    except TokenizerError:
        return None


@pytest.mark.parametrize("line", EXPRESSIONS.strip().split("\n"))
def test_expressions_have_the_values_of_jinja(reference, line):
    for expression in line.split("; "):
        for values in itertools.product(*VALUES.values()):
            variables = dict(zip(VALUES, values, strict=True))
            source = "{{ " + expression + " }}"
            template = reference.from_string(source)
            expected = written(lambda template=template, variables=variables: template.render(**variables))
            assert ours(source, variables) == expected, expression


@pytest.mark.parametrize(
    "source",
    [
        "{% for k, v in d.items() %}{{ loop.index }}{{ k }}{{ v }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{% endfor %}",
        "{% for x in l %}{{ loop.previtem }}{{ x }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% endfor %}",
        "{% for x in l if x > 1 %}{{ x }}{{ loop.length }}{% else %}none{% endfor %}{% for x in [] %}{% else %}none{% endfor %}",
        "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}",
        "{% set a = 1 %}{% for x in l %}{% set a = a + x %}{{ a }}{% endfor %}{{ a }}",
        "{% if a is defined %}1{% elif l %}2{% else %}3{% endif %}{% if false %}{% set z = 1 %}{% endif %}{{ z is defined }}",
        "{% if l %}{% set z = 1 %}{% endif %}{{ z }}",
        "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(b=5, a=4) }}|{{ m() }}",
        "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
        "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
        "{% macro m(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) m('q') %}{{ y }}!{% endcall %}",
        "{% set x = 'out' %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 'in' %}{{ m() }}",
        "{% set x %}a{{ 1 }}{% endset %}{{ x }}{% set y | upper | replace('B', 'c') %}ab{% endset %}{{ y }}",
        "{% filter upper | replace('A', 'x') %}a{{ 'b' }}{% endfilter %}",
        "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
        "{% set a, b = [1, 2] %}{{ a }}{{ b }}{% set ns = namespace() %}{% set ns.q = 3 %}{{ ns.q }}{{ ns.zz is defined }}",
        "{% set a, b = [1] %}",
        "{% raw %}{{ x }}{% endraw %}{# no #}  {%- if 1 -%}  y  {%- endif %}",
        "{% for c in 'abc' %}{% if c == 'b' %}{% continue %}{% endif %}{{ c }}{% endfor %}{% for c in 'abc' %}{% if c == 'b' %}{% break %}{% endif %}{{ c }}{% endfor %}",
        "{% block b %}in{% endblock %}",
        "{% for g in r | groupby('g') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}{% for k, v in r | groupby('g') %}{{ k }}{{ v | length }}{% endfor %}",
        "{% if l | select('gt', 99) %}a generator is true{% endif %}",
        "{{ m(1) if m is defined else 'no m' }}{{ d.missing }}{{ d['missing'] }}",
        "{{ d.missing.deeper }}",
        "{{ 'a' + 1 }}",
        "{{ x + 'a' }}",
        "{{ l.append(1) }}",
        "{{ t.__class__ }}",
        "{% for x in 5 %}{% endfor %}",
        "line\n{% if true %}\n  kept\n  {% endif %}\nend\n",
    ],
)
def test_statements_write_what_jinja_writes(reference, source):
    variables = {name: values[-1] for name, values in VALUES.items()}
    expected = written(lambda: reference.from_string(source).render(**variables))
    assert ours(source, variables) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_families_write_what_jinja_writes(reference, family):
    template = reference.from_string(FAMILIES[family])
    texts = 0
    for case in CASES:
        expected = written(lambda case=case: template.render(**SPECIAL, **case))
        assert ours(FAMILIES[family], case) == expected
        texts += expected is not None
    assert texts >= 8


@pytest.mark.torch
@pytest.mark.parametrize("family", FAMILIES)
def test_families_write_what_transformers_writes(family):
    render = pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template
    for case in CASES:
        given = json.loads(json.dumps(case))
        messages = given.pop("messages")
        expected = written(
            lambda given=given, messages=messages: render(
                [messages], chat_template=FAMILIES[family], **SPECIAL, **given
            )[0][0]
        )
        assert ours(FAMILIES[family], {**case, "documents": None}) == expected
