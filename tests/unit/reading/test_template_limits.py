"""Chat templates of strangers: what takes too long or becomes too large ends with a sentence, the rest is as
it was."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest
from jinja2.exceptions import SecurityError
from transformers.utils import chat_template_utils

from engine.models.tokenization import rendering, template_limits, tool_turns
from store.core.errors import ConfigError
from store.core.model_folders import TEMPLATES
from tests.tiny import CHATML, make_tokenizer

TURNS = [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "yo"}]
TWICE = "{% for i in range(60) %}{% set n.x = TWICE %}{% endfor %}"
GROWING = "{% set n = namespace(x=START) %}" + TWICE
LONG, LARGE, DEEP = "took more than", "million characters|values at once", "without end|too deeply"
APART, NUMBERS, MADE = "splits a text", "whole numbers of more than", "MiB of values"
LETTERS = "{% set x = 'a' * 10**7 %}"
SIGNS = "'\u4e2d\u4e8c' * 10**7"  # each a text of its own once it is taken out


def grown(start: str, twice: str, used: str = "{{ n.x }}") -> str:
    return GROWING.replace("START", start).replace("TWICE", twice) + used


HOSTILE = [
    ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", LONG),
    ("{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}", LONG),
    ("{{ range(99999)|map('string')|map('list')|sum(start=[])|length }}", LONG + "|" + LARGE),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", DEEP),
    ("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}", DEEP),
    ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", DEEP),
    ("{{ 'a' * 10**9 }}", LARGE),
    ("{{ messages * 10**9 }}", LARGE),
    ("{{ 10**(10**8) }}", NUMBERS),
    (grown("'aaaa'", "n.x ~ n.x"), LARGE + "|" + LONG),
    (grown("'aaaa'", "n.x + n.x"), LARGE + "|" + LONG),
    (grown("[1]", "n.x + n.x"), LARGE + "|" + LONG),
    (grown("[1]", "[n.x, n.x]"), LARGE + "|" + LONG),
    (grown("[1]", "(n.x, n.x)", "{{ n.x == n.x }}"), LARGE + "|" + LONG),
    (grown("[1]", "{'a': n.x, 'b': n.x}", "{{ n.x|tojson }}"), LARGE + "|" + LONG),
    (grown("[1]", "dict(a=n.x, b=n.x)", "{{ n.x|string }}"), LARGE + "|" + LONG),
    ("{{ 'a'.ljust(10**9) }}", LARGE),
    ("{{ 'a'|center(10**9) }}", LARGE),
    ("{{ 'a\n'|indent(10**9) }}", LARGE),
    ("{{ '%1000000000d' % 5 }}", LARGE),
    ("{{ '%*d' % (10**9, 5) }}", LARGE),
    ("{{ '{:1000000000}'.format(5) }}", LARGE),
    ("{{ '%1000000000d'|format(5) }}", LARGE),
    ("{% set x = 'a' * 10**6 %}{{ x.replace('a', x) }}", LARGE),
    ("{% set x = 'a' * 10**6 %}{{ x|replace('a', x) }}", LARGE),
    ("{% set x = 'a' * 10**6 %}{{ [x, x, x] * 10**5 }}", LARGE),
    ("{{ range(99999)|map('center', 9999)|join }}", LARGE + "|" + LONG),
    ("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", LARGE + "|" + LONG),
    (" " * (template_limits.MAX_SOURCE + 1), "has 65,537 characters"),
    ("{{ (((10**64)**64)**64)**64 }}", NUMBERS),
    (grown("10**64", "n.x * n.x"), NUMBERS),
    ("{% set x = ('f' * 10**6)|int(base=16) %}{{ x // 7 }}", NUMBERS),
    ("{{ 5|round(-6 * 10**7) }}{{ 5|round(precision=-6 * 10**7) }}", NUMBERS),
    ("{{ (5).to_bytes(3 * 10**9, 'big')|length }}", LARGE),
    ("{% set x = range(99999)|list %}" + "{% set y = x|string %}" * 2000, LONG + "|" + MADE),
    (LETTERS + "{% set y = x ~ 'b' %}" + "{% if x ~ 'c' == y %}{% endif %}" * 1500, MADE + "|" + LONG),
    (LETTERS + "{% set y = x ~ '' %}" + "{% if x == y %}{% endif %}" * 2200, LONG),
    (LETTERS + "{% set y = x ~ '' %}" + "{% if x is eq(y) %}{% endif %}" * 1900, LONG),
    ("{% set x = range(99999)|list %}{{ x|reject('in', x)|list }}", LONG + "|" + LARGE),
    ("{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}", LONG),
    ("{% for b in " + SIGNS + " if true %}{{ loop.length }}{% endfor %}", APART),
    ("{{ (" + SIGNS + ")|list|length }}", APART),
    ("{{ (" + SIGNS + ")|sort|length }}", APART),
    ("{{ dict(*(" + SIGNS + ")) }}", APART),
    ("{{ ('aa,' * 10**7).split(',')|length }}", APART),
    ("{{ ('aa ' * 10**7).split()|length }}", APART),
    ("{{ ('aa ' * 10**7)|wordcount }}", APART),
    ("{{ ('www.a.bb ' * 10**6)|urlize|length }}", APART),
    (LETTERS + "{% set y %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endset %}", MADE + "|" + LONG),
    (LETTERS + "{% macro m() %}{{ x }}{{ x }}{{ x }}{{ x }}{% endmacro %}{{ m()|length }}", LARGE),
    (LETTERS + "".join(f"{{% set v{number} = x ~ {number} %}}" for number in range(1500)), MADE + "|" + LONG),
]


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(template_limits, "SECONDS", 0.3)
    template_limits.limit_templates()
    return make_tokenizer()


@pytest.mark.parametrize(("template", "says"), HOSTILE, ids=[f"{number}" for number in range(len(HOSTILE))])
def test_what_would_not_end_or_not_fit_is_refused(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, template: str, says: str
) -> None:
    if LONG not in says:  # what is refused by its size is refused on a slow machine, too
        monkeypatch.setattr(template_limits, "SECONDS", 60.0)
    tokenizer.chat_template = template
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=f"The chat template .*({says})") as refused:
        tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert refused.value.field == "chat_template"
    assert time.process_time() - began < 3  # of work: a loaded machine takes longer
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 2**10


def test_what_a_template_asks_for_is_told_without_working_out_its_constants(tokenizer: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tokenizer.chat_template = "{{ 'a' * 10**9 }}{{ tools }}{{ tool_calls }}"
    assert tool_turns.supports_tools(tokenizer)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 2**10
    tokenizer.chat_template = "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"
    with pytest.raises(ConfigError, match="nested too deeply"):
        tool_turns.supports_tools(tokenizer)


def test_nothing_leads_out_of_the_sandbox(tokenizer: Any) -> None:
    for template in ("{{ ''.__class__.__mro__ }}", "{{ messages.append.__self__.__class__() }}"):
        tokenizer.chat_template = template
        with pytest.raises(SecurityError):
            tokenizer.apply_chat_template(TURNS, tokenize=False)
    for template in ("{% include '/etc/passwd' %}", "{% import 'os' as os %}{{ os }}"):
        tokenizer.chat_template = template
        with pytest.raises(TypeError, match="no loader"):
            tokenizer.apply_chat_template(TURNS, tokenize=False)


BUSY = (
    "{%- macro shown(d, deep=2) -%}{% for k, v in d.items() %}{{ k ~ '=' ~ v }}{% if not loop.last %}, "
    "{% endif %}{% endfor %}{%- endmacro -%}{% set n = namespace(last=-1, all=[]) %}{% for m in messages %}"
    "{% set n.last = loop.index0 %}{% set n.all = n.all + [m.role] %}{{ shown(m) }}|{{ m['content'][::-1] }}|"
    "{{ '%s %05.1f' % (m.role, 2.5) }}|{{ m.content.split('h')|join('-')|upper }}|{{ '-' * 3 + 'x' }}"
    "{% if loop.index > 9 %}{% break %}{% endif %}{% endfor %}{{ n.all|tojson }}{{ 7 + 2 * 3 ** 2 % 4 }}"
    "{{ n.last ~ ':' ~ messages|length }}{{ dict(a=1)['a'] }}{{ [1, 2][1:] }}{{ ('x', 'y')|last }}"
    "{{ nothing }}{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list }}"
    "{{ {'a': none}.get('a') }}"
)


@pytest.mark.parametrize("template", [CHATML, BUSY, *TEMPLATES.values()])
def test_a_template_writes_what_it_wrote(tokenizer: Any, template: str) -> None:
    free = chat_template_utils._cached_compile_jinja_template(template)
    more = {"add_generation_prompt": True, "tools": None, "documents": None, **tokenizer.special_tokens_map}
    tokenizer.chat_template = template
    assert tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True) == free.render(
        messages=TURNS, **more
    )


def test_whoever_loaded_the_tokenizer_its_template_is_rendered_within_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = chat_template_utils._cached_compile_jinja_template
    large = make_tokenizer("{{ 'a'.ljust(10**8) }}")
    for way in (
        lambda: rendering.render_conversation(large, TURNS),
        lambda: rendering.render(large, [0], [TURNS]),
    ):
        monkeypatch.setattr(chat_template_utils, "_compile_jinja_template", free)
        with pytest.raises(ConfigError, match=LARGE):
            way()
