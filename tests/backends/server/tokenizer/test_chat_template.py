"""Chat templates, against transformers' own way of rendering them."""

from datetime import datetime
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from transformers.utils.chat_template_utils import render_jinja_template

from backends.server.tokenizer.chat_template import ChatTemplate
from tests.backends.server.qwen2_checkpoints import TEMPLATE
from tests.backends.server.transformers_checkpoints import (
    EATING_TEMPLATE,
    INST_TEMPLATE,
    THINKING_TEMPLATE,
    TURN_TEMPLATE,
)

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
SAID = [
    {"role": "user", "content": " Hi <b>&\n"},
    {"role": "assistant", "content": "<think>\nHm.\n</think>\n\n你好 "},
    {"role": "user", "content": "{{ 7 * 7 }}"},
]
BLOCKS = """
  {% for message in messages %}
    {% if loop.index is odd %}
  {{ message.role }}
    {% else %}
{{- message.content -}}
    {% endif %}
  {% endfor %}
"""
LOOPS = (
    "{% for message in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{% if loop.last %}{% break %}{% endif %}{{ message.content }}{% endfor %}"
)
GENERATION = (
    "{% set x = 1 %}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}{% set x = 2 %}{{ m.content }}{{ x }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{{ x }}"
)
NAMESPACE = (
    "{% set seen = namespace(self=0, last='') %}{% for m in messages %}"
    "{% set seen.self = seen.self + 1 %}{% set seen.last = m.role %}{% endfor %}"
    "{{ seen.self }}{{ seen.last }}"
)
JSON = (
    "{{ messages | tojson }}{{ messages | tojson(indent=2) }}"
    "{{ dict(b='é', a=1) | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}"
)
NOTHING = (
    "{{ bos_token }}{{ unk_token }}{{ tools }}{{ documents }}{{ tools is none }}{{ nothing }}"
    "{{ add_generation_prompt }}{{ dict.fromkeys(['a']) }}{{ messages[0].missing is defined }}"
)
RENDERED = (
    TEMPLATE,
    INST_TEMPLATE,
    EATING_TEMPLATE,
    THINKING_TEMPLATE,
    TURN_TEMPLATE,
    BLOCKS,
    LOOPS,
    GENERATION,
    NAMESPACE,
    JSON,
    NOTHING,
)
REFUSED = (
    "{{ raise_exception('No fish here.') }}",
    "{% for %}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='x') }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ dict.__class__.__bases__[0].__name__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% set a = namespace(_x=1) %}",
    "{% set a = namespace() %}{% set a.__class__ = 1 %}",
    "{{ missing.attribute }}",
    "{{ 1 / 0 }}",
    "{{ messages[0]['content'] + 1 }}",
)


def _reference(source: str) -> str:
    render: Any = render_jinja_template
    rendered, _ = render([SAID], chat_template=source, add_generation_prompt=True, **NAMES)
    return str(rendered[0])


@pytest.mark.parametrize("source", RENDERED)
def test_a_template_gives_what_transformers_gives(source: str) -> None:
    template = ChatTemplate(source, NAMES)
    assert template.render(SAID) == _reference(source)
    assert template.render(SAID) == _reference(source)


@pytest.mark.parametrize("source", REFUSED)
def test_what_fails_in_transformers_fails_in_the_same_way(source: str) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is
        _reference(source)
    with pytest.raises(type(expected.value)):
        ChatTemplate(source, NAMES).render(SAID)


def test_what_a_template_raises_is_its_own_words() -> None:
    with pytest.raises(TemplateError, match=r"No fish here\."):
        ChatTemplate(REFUSED[0], {}).render(SAID)


def test_a_template_can_not_hide_attributes_in_a_namespace() -> None:
    with pytest.raises(SecurityError, match="_x"):
        ChatTemplate("{% set a = namespace(_x=1) %}", {}).render(SAID)


def test_a_template_may_name_the_day() -> None:
    rendered = ChatTemplate("{{ strftime_now('%Y-%m') }}", {}).render(SAID)
    assert datetime.strptime(rendered, "%Y-%m").year >= 2026


def test_rendering_changes_no_message() -> None:
    before = [dict(message) for message in SAID]
    ChatTemplate(TEMPLATE, {}).render(SAID)
    assert before == SAID
