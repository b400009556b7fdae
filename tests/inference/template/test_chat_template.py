"""Chat templates follow the conventions of Hugging Face and cannot harm the process."""
# ruff: noqa: E501

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.template.chat_template import render_chat_template
from ai_os_diffusion.utils.errors import TokenizerError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hé <b> & 你好?"},
]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def render(source, **variables):
    return render_chat_template(source, variables)


@pytest.fixture
def folder(tmp_path):
    words = {"<|im_start|>": 0, "<|im_end|>": 1, "Be": 2, "brief": 3, ".": 4, "user": 5, "[UNK]": 6}
    added = [
        {"id": id, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for token, id in list(words.items())[:2]
    ]  # fmt: skip
    model = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    document = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Whitespace"},
        "model": model,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    return tmp_path


def test_a_conversation_is_written_as_trained(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    tokenizer = FastTokenizer(folder)
    text = tokenizer.apply_chat_template(MESSAGES)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHé <b> & 你好?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert not tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=False).endswith("assistant\n")
    ids = tokenizer.apply_chat_template(MESSAGES[:1], tokenize=True)
    assert ids.tolist() == [0, 6, 2, 3, 4, 1, 0, 6]


def test_the_template_nearest_to_the_model_wins(folder):
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "chat_template": [
                    {"name": "tool_use", "template": "tools"},
                    {"name": "default", "template": "config"},
                ]
            }
        )
    )
    assert FastTokenizer(folder).apply_chat_template(MESSAGES) == "config"
    (folder / "chat_template.jinja").write_text("file")
    assert FastTokenizer(folder).apply_chat_template(MESSAGES) == "file"
    (folder / "metadata.json").write_text(json.dumps({"chat_template": "metadata"}))
    assert FastTokenizer(folder).apply_chat_template(MESSAGES) == "metadata"
    assert FastTokenizer(folder).apply_chat_template(MESSAGES, chat_template="given") == "given"


def test_a_model_without_a_template_says_so(folder):
    with pytest.raises(TokenizerError, match=r"no chat template; expected one in metadata\.json"):
        FastTokenizer(folder).apply_chat_template(MESSAGES)


def test_special_tokens_tools_and_variables_are_given(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|im_end|>"}}))
    source = "{{ eos_token }}|{{ tools | tojson }}|{{ thinking }}|{{ absent is defined }}"
    written = FastTokenizer(folder).apply_chat_template(
        MESSAGES, tools=[{"name": "look"}], chat_template=source, thinking=True
    )
    assert written == '<|im_end|>|[{"name": "look"}]|True|False'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("  {% if true %}\nyes\n  {% endif %}\nend", "yes\nend"),
        ("{{ {'b': 'é<', 'a': 1} | tojson }}", '{"b": "é<", "a": 1}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}", "02"),
        ("a{% generation %}b{% endgeneration %}c", "abc"),
        ("{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "3"),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m('a') ~ m(1) ~ none }}", "[a][1]None"),
        ("{{ 'a<think>b</think>c'.split('</think>')[-1].lstrip('\\n') }}", "c"),
        ("{{ messages[::-1] | length }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "21"),
        ("{{ '%s-%05d' | format('a', 7) }}{{ '{:>4}'.format(1) }}{{ 'x' * 3 }}{{ 7 % 4 }}{{ 2 ** 8 }}", "a-00007   1xxx3256"),
        ("{{ 'line\nline' | indent(2) }}|{{ ['a', 'b'] | join(', ') }}|{{ 'aXb' | replace('X', '-') }}", "line\n  line|a, b|a-b"),
    ],
)  # fmt: skip
def test_conventions_of_the_language(source, expected):
    assert render(source, messages=MESSAGES) == expected


def test_the_date_is_todays():
    assert render("{{ strftime_now('%Y') }}") in {str(datetime.now().year), str(datetime.now().year - 1)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ok\n{% if %}", "chat template, line 2: "),
        (
            "ok\n\n{{ raise_exception('roles must alternate') }}",
            "chat template, line 3: roles must alternate",
        ),
        ("{% for m in messages %}\n{{ m.content.missing.deeper }}\n{% endfor %}", "chat template, line 2: "),
        ("\n{{ 1 / 0 }}", "chat template, line 2: ZeroDivisionError"),
        ("{{ nothing() }}", "chat template, line 1: 'nothing' is undefined"),
        ("{% include 'other' %}", "chat template, line 1: "),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "call each other without end"),
    ],
)
def test_a_failure_names_its_line(source, message):
    with pytest.raises(TokenizerError, match=message):
        render(source, messages=MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_the_sandbox_holds(source):
    before = json.dumps(MESSAGES)
    try:
        written = render(source, messages=MESSAGES)
    except TokenizerError:
        written = ""
    assert "class" not in written
    assert json.dumps(MESSAGES) == before


DOUBLED = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = (EXPRESSION) %}{% endfor %}{{ ns.x }}"
NESTED = "{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
STRIPED = "{% set x = ('-' ~ messages[0].content[:1]) * 99999 %}"


HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(10 ** 12) %}{% endfor %}",
    "{{ range(10 ** 12) | list }}",
    "{{ range(10 ** 9) | join }}",
    "{{ (10 ** 9) in (range(10 ** 9) | map('string')) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(64) }}",
    "{% macro m(n) %}{% set x = 'x' * 9999999 %}{{ m(n + 1) ~ x }}{% endmacro %}{{ m(0) }}",
    "{{ 'x' * 10 ** 10 }}",
    "{{ 10 ** 10 * 'x' }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 9999999999 ** 64 * 9999999999 ** 64 }}",
    "{{ [0] * 10 ** 10 }}",
    "{{ (0,) * 10 ** 10 }}",
    "{% set ns = namespace(n=9) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
    *(
        DOUBLED.replace("EXPRESSION", expression)
        for expression in (
            "ns.x ~ ns.x",
            "ns.x + ns.x",
            "ns.x * 2",
            "[ns.x, ns.x] | join",
            "'-'.join([ns.x, ns.x])",
            "'-' | list | join | replace('-', ns.x ~ ns.x)",
            "ns.x.replace('a', ns.x)",
            "ns.x | replace('a', ns.x)",
            "ns.x.replace('', ns.x)",
            "ns.x.join(ns.x)",
            "ns.x | join(ns.x)",
            "'%s%s' % (ns.x, ns.x)",
            "'%s%s' | format(ns.x, ns.x)",
            "'{0}{0}'.format(ns.x)",
            "ns.x | indent(999999)",
            "ns.x | indent(ns.x, true)",
            "(ns.x ~ '\n') | indent(ns.x, true)",
            "ns.x | tojson | tojson",
            "[ns.x, ns.x] | string",
            "ns.x | list | string",
            "ns.x | center(99999999)",
            "ns.x.encode",
            "ns.x.split('a') * 3",
            "ns.x | default('') ~ ns.x",
            "dict(a=ns.x, b=ns.x) | tojson(indent=99999)",
            "(ns.x ~ 'ß') | upper ~ ns.x",
            "[ns.x] * 2 | length * 'x' * 99999999",
        )
    ),
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x %}{% filter indent(9999) %}{{ ns.x }}\n{{ ns.x }}{% endfilter %}{% endset %}{% endfor %}",
    *(
        NESTED + body
        for body in (
            "{{ ns.x }}",
            "{{ ns.x | tojson }}",
            "{{ ns.x | string }}",
            "{{ ns.x ~ '' }}",
            "{{ '%s' % ns.x }}",
            "{{ '{}'.format(ns.x) }}",
            "{{ '%s' % [ns.x] }}",
            "{{ [ns.x] | join }}",
            "{{ dict(a=ns.x).values() }}",
            "{{ dict(a=ns.x).items() | list }}",
            "{{ dict(a=ns.x) | tojson }}",
            "{{ dict(a=ns.x) | dictsort(by='value') }}",
            "{{ ns.x == [ns.x, ns.x, 1][:2] }}",
            "{{ ns.x in [[ns.x, 1]] }}",
            "{{ [ns.x, ns.x] | sort }}",
            "{{ [ns.x, ns.x] | max }}",
            "{{ [ns.x].index(ns.x) }}",
            "{{ ns.x | urlencode }}",
            "{{ ns.x | e }}",
            "{{ raise_exception(ns.x) }}",
        )
    ),
    *(
        STRIPED + "{% for i in range(999999) %}" + body + "{% endfor %}"
        for body in ("{{ x[1:] | length }}", "{{ x | trim | length }}", "{{ x.split('-') | length }}", "{{ x | list | length }}")
    ),
    "{{ 'x' | center(10 ** 10) }}",
    "{{ 'x'.ljust(10 ** 10) }}",
    "{{ 'x'.rjust(10 ** 10) }}",
    "{{ 'x'.zfill(10 ** 10) }}",
    "{{ ('\t' * 99999).expandtabs(10 ** 6) }}",
    "{{ 'x' | indent(10 ** 10, true) }}",
    "{{ [1] | batch(10 ** 10, 0) | list }}",
    "{{ [1] | slice(10 ** 10) | list }}",
    "{{ 1.5 | round(10 ** 10) }}",
    "{{ {'a': [1] * 99} | tojson(indent=10 ** 9) }}",
    "{{ ([1] * 9999) | tojson(separators=('x' * 99999, ':')) }}",
    "{{ '%9999999999d' | format(1) }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%.9999999999f' % 1 }}",
    "{{ '{:>9999999999}'.format(1) }}",
    "{{ '{:.999999999f}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 10 ** 10) }}",
    "{{ '%*d' % (10 ** 10, 1) }}",
    "{{ lipsum(10 ** 9) }}",
    "{% for i in range(9999) %}{{ strftime_now('%999999999d' * 9999) }}{% endfor %}",
    "{{ ('x' * 9999999 ~ 'y') | truncate(5, true, 'x' * 99999999) }}",
    "{{ '(' * 5000 }}" + "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "x" * (1 << 21),
]  # fmt: skip


@pytest.mark.parametrize("source", HOSTILE, ids=itertools.count())
def test_work_is_bounded(source):
    with pytest.raises(TokenizerError, match="chat template"):
        render(source, messages=MESSAGES)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_memory_is_bounded():
    code = """
import json, resource, sys
from ai_os_diffusion.inference.template.chat_template import render_chat_template
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
sources, messages = json.load(sys.stdin)
for source in sources:
    try:
        render_chat_template(source, {"messages": messages})
    except Exception as error:
        print(json.dumps(str(error)))
"""
    given = json.dumps([HOSTILE, MESSAGES])
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True
    )
    reasons = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reasons) == len(HOSTILE)
    assert [reason for reason in reasons if "Memory" in reason] == []


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"messages": [{"role": "user", "content": b"x"}]}, r"messages\[0\]\['content'\] is of type bytes"),
        ({"tools": [render]}, r"tools\[0\] is of type function"),
        ({"when": datetime(2020, 1, 1)}, "when is of type datetime"),
    ],
)
def test_what_is_no_data_is_refused_by_place(variables, message):
    with pytest.raises(TokenizerError, match=message):
        render("x", **variables)


@dataclasses.dataclass
class Turn:
    role: str
    content: object


class Dumped:
    def model_dump(self):
        return {"n": np.int64(3), "f": np.float32(0.5), "b": np.bool_(False), "t": (1, [None])}


def test_records_and_numbers_of_other_types_become_plain():
    messages = (Turn("user", Dumped()),)
    source = "{{ messages[0].role }} {{ messages[0].content | tojson }} {{ messages | length }}"
    assert render(source, messages=messages) == 'user {"n": 3, "f": 0.5, "b": false, "t": [1, [null]]} 1'


def test_long_messages_pass():
    content = "word {123456} %123456d " * 20000
    text = render(CHATML, messages=[{"role": "user", "content": content}], add_generation_prompt=True)
    assert content in text
    assert (
        render("{{ messages[0].content.strip() | trim }}", messages=[{"content": content}]) == content.strip()
    )


@pytest.mark.models
def test_the_real_template(smollm2_dir):
    text = FastTokenizer(smollm2_dir).apply_chat_template([{"role": "user", "content": "Hi"}])
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
