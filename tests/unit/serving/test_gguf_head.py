"""The head of a GGUF file: what is asked for is read, and a file that means harm is refused in a sentence."""

from __future__ import annotations

import resource
import struct
import time
from pathlib import Path

import pytest

from engine.models.tokenization import template_limits
from engine.serving.gguf_metadata import GgufHeader
from engine.serving.llama_backend import ChatTemplate
from engine.serving.protocol.answers import RequestError
from engine.serving.protocol.request_bodies import ChatTurn
from store.core.errors import ConfigError, ModelError

U8, U32, F32, TEXT, ARRAY, U64 = 0, 4, 6, 8, 9, 10
NUMBERS = {U8: "B", U32: "I", F32: "f", U64: "Q"}
Written = tuple[int, object]  # kind of a value, and the value


def text(value: str | bytes) -> bytes:
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(content)) + content


def value_of(kind: int, value: object) -> bytes:
    if kind == TEXT:
        return text(str(value))
    if kind == ARRAY:
        assert isinstance(value, list)
        own = TEXT if value and isinstance(value[0], str) else U32
        return struct.pack("<IQ", own, len(value)) + b"".join(value_of(own, each) for each in value)
    return struct.pack("<" + NUMBERS[kind], value)


def gguf(fields: dict[str, Written], version: int = 3, count: int | None = None) -> bytes:
    """A file without tensors; count: of its fields, where it lies."""
    written = [
        text(name) + struct.pack("<I", kind) + value_of(kind, value) for name, (kind, value) in fields.items()
    ]
    return b"GGUF" + struct.pack("<IQQ", version, 0, count or len(fields)) + b"".join(written)


def head(folder: Path, content: bytes) -> GgufHeader:
    path = folder / "m.gguf"
    path.write_bytes(content)
    return GgufHeader(path)


FIELDS: dict[str, Written] = {
    "general.architecture": (TEXT, "llama"),
    "llama.context_length": (U32, 2048),
    "llama.scale": (F32, 0.5),
    "sizes": (ARRAY, [1, 2, 3]),
    "tokenizer.ggml.bos_token_id": (U32, 1),
    "tokenizer.ggml.tokens": (ARRAY, ["a", "<é>", "c"]),
    "tokenizer.ggml.eos_token_id": (U32, 2),
    "tokenizer.chat_template": (
        TEXT,
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}",
    ),
}


def test_fields_and_tokens_are_read(tmp_path: Path) -> None:
    read = head(tmp_path, gguf(FIELDS))
    assert read.get_text("general.architecture") == "llama"
    assert read.get_number("llama.context_length") == 2048
    assert (read.get_text("nothing"), read.get_number("nothing"), read.get_token_text("nothing")) == (
        "",
        None,
        "",
    )
    assert read.get_token_text("tokenizer.ggml.bos_token_id") == "<é>"
    template = ChatTemplate(read)
    turns = [ChatTurn(role="developer", content="Be kind."), ChatTurn(role="user", content="Hi")]
    assert template.render_prompt(turns) == "<é>system: Be kind.cuser: Hic"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"PK" + bytes(40), "its first bytes are not those of a GGUF file"),
        (gguf({}, version=9), "version is 9"),
        (gguf({}, count=2**63), "fields, over"),
        (gguf(FIELDS, count=9), "unpack_from requires|middle"),
        (gguf(FIELDS)[:-5], "middle"),
        (gguf({"a": (TEXT, "b")}).replace(text("b"), struct.pack("<Q", 2**64 - 1)), "middle"),
        (
            gguf({"a": (ARRAY, [1])}).replace(struct.pack("<IQI", U32, 1, 1), struct.pack("<IQ", U32, 2**62)),
            "middle",
        ),
        (
            gguf({"a": (ARRAY, ["b"])}).replace(struct.pack("<IQ", TEXT, 1), struct.pack("<IQ", TEXT, 2**62)),
            "texts, over",
        ),
        (
            gguf({"a": (ARRAY, [1])}).replace(struct.pack("<IQI", U32, 1, 1), struct.pack("<IQ", ARRAY, 9)),
            "kind 9",
        ),
    ],
)
def test_what_is_no_head_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=f"m.gguf is not a readable GGUF file: .*({says})"):
        head(tmp_path, content)


def test_fields_of_other_kinds_are_refused(tmp_path: Path) -> None:
    fields = FIELDS | {"tokenizer.ggml.bos_token_id": (U64, 2**63), "tokenizer.chat_template": (U8, 7)}
    read = head(tmp_path, gguf(fields))
    for ask in (
        lambda: read.get_number("general.architecture"),
        lambda: read.get_number("llama.scale"),
        lambda: read.get_text("tokenizer.chat_template"),
        lambda: read.get_token_text("tokenizer.ggml.bos_token_id"),
    ):
        with pytest.raises(ModelError, match="not a readable GGUF file"):
            ask()


def test_a_large_array_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    many = text("a") + struct.pack("<IIQ", ARRAY, U8, 10**8) + bytes(10**8)
    assert head(tmp_path, gguf({}, count=1) + many).get_number("a") is None
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 2**10


def test_the_template_of_a_file_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "SECONDS", 0.3)
    turns = [ChatTurn(role="user", content="Hi")]
    hostile = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": ConfigError,
        "{{ 'a' * 10**9 }}": ConfigError,
        "{{ ''.__class__.__mro__ }}": RequestError,
    }
    for template, refusal in hostile.items():
        fields = FIELDS | {"tokenizer.chat_template": (TEXT, template)}
        with pytest.raises(refusal):
            ChatTemplate(head(tmp_path, gguf(fields))).render_prompt(turns)
