"""The Modelfile of chat templates of many shapes. What is said of Ollama here was seen with its own parser of
Modelfiles and its own templates, which no test can run: see docs/exports.md."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.export import gguf_formats
from tests.engine.exporting import make_merging_tokenizer

END = "<|im_end|>"
ASK = "{% if add_generation_prompt %}<assistant>{% endif %}"


def modelfile(template: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(gguf_formats, "_read_context", lambda work: 2_048)
    tokenizer = make_merging_tokenizer(template)
    work: Any = SimpleNamespace()
    return gguf_formats.build_modelfile(tokenizer, "m.gguf", gguf_formats.detect_turn_shape(tokenizer), work)


def turns(before: str = "<{{ m.role }}>", after: str = END, text: str = "m.content") -> str:
    return "{% for m in messages %}" + f"{before}{{{{ {text} }}}}{after}" + "{% endfor %}" + ASK


def test_turns_of_one_shape_are_a_go_template(monkeypatch: pytest.MonkeyPatch) -> None:
    text = modelfile(turns(), monkeypatch)
    assert '{{ if eq .Role "user" }}<user>{{ .Content }}<|im_end|>{{ end }}' in text
    assert text.count("PARAMETER stop") == 1
    assert "PARAMETER repeat_penalty 1\n" in text, "older releases had 1.1"


def test_braces_are_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused: function "user" not defined."""
    template = turns("{{ '{{' + m.role + '}}' }}").replace("<assistant>", "{{ '{{assistant}}' }}")
    assert '{{ "{{" }}user}}{{ .Content }}' in modelfile(template, monkeypatch)


@pytest.mark.parametrize("piece", ["<{{ m.role }}>\u00a0", '<{{ m.role }}>"""'])
def test_what_the_parser_drops_is_no_shape(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A space that doesn't break was lost without a word; three quotes end the template."""
    template = turns(piece).replace("<assistant>", piece.replace("{{ m.role }}", "assistant"))
    assert "TEMPLATE" not in modelfile(template, monkeypatch)


def test_answers_stop_at_tokens_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quote that closes a turn stands in the middle of answers too."""
    template = turns(after='"\n').replace("<assistant>", "<assistant>")
    text = modelfile(template, monkeypatch)
    assert "TEMPLATE" in text
    assert text.count("PARAMETER stop") == 1


def test_a_template_that_trims_is_told_of() -> None:
    for text, trims in (("m.content", False), ("m.content | trim", True)):
        tokenizer = make_merging_tokenizer(turns(text=text))
        shape = gguf_formats.detect_turn_shape(tokenizer)
        assert shape is not None
        assert gguf_formats._is_trimmed(tokenizer, shape) is trims
