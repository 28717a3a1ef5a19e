"""Writers of GGUF files, with llama.cpp's own converter and quantization, also with a Modelfile.

The converter runs in a separate process. The Modelfile, read by `ollama create`, has the model's chat
template translated to Ollama's template language if its turns are regular.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.export import export_subject, external_tools, llama_library, model_settings
from engine.export.export_subject import ExportTask
from engine.models import loading
from store.core.errors import ConfigError, ModelError
from store.core.job_folder import read_json, write_json
from store.export.forms import get_file_form

# The converter gets the merged weights in fp32, so that they are rounded once.

LAST_LINES = 12
SCRIPT = Path(__file__).with_name("convert_process.py")
GUESSED = "tokenizer taken for GPT-2's"  # printed by the script
NOTICE = (
    "llama.cpp does not recognize this tokenizer and falls back to GPT-2 pre-tokenization. The prompts were"
    " compared token by token; other texts may be tokenized differently."
)


def write_gguf(work: ExportTask) -> list[str]:
    """Write the file MODEL-FORM.gguf into the folder."""
    notices = make_gguf(work, work.folder / build_file_name(work))
    work.note_written()
    return notices


def build_file_name(work: ExportTask) -> str:
    """Return the file name in the usual form: model-Q8_0.gguf."""
    form = get_file_form(work.form.name, work.config.gguf)
    return f"{work.subject.name}-{form.name.removeprefix('gguf-').upper()}.gguf"


def make_gguf(work: ExportTask, target: Path) -> list[str]:
    """Merge, convert to F16 and quantize; return notices.

    Raises: ConfigError for an encoder or a classifier.
    """
    check_gguf(work)
    merged, form = work.aside / "merged", get_file_form(work.form.name, work.config.gguf)
    work.tell("Merging the adapter" if work.subject.adapter else "Loading the weights")
    export_subject.load_merged(work.job, work.subject).save_pretrained(merged)
    work.tokenizer().save_pretrained(merged)
    model_settings.complete_settings(merged)
    _disable_bos(work, merged)
    work.tell("Converting to GGUF")
    half = target if form.name == "gguf-f16" else work.aside / "model-F16.gguf"
    notices = convert(merged, half, work.subject.name)
    if half != target:
        work.tell(f"Quantizing to {form.title.removeprefix('GGUF ')}")
        llama_library.quantise(half, target, form.ftype)
        half.unlink()
    return notices


def check_gguf(work: ExportTask) -> None:
    """Raise ConfigError (form) for models that llama.cpp does not support."""
    subject = work.subject
    if subject.labels is not None:
        what = "is an encoder with" if _is_encoder(subject.base(work.job)) else "has"
        raise ConfigError(
            f"{subject.title} {what} a classification head, which GGUF does not support.",
            fix="Choose the form merged.",
            field="form",
        )
    if _is_encoder(subject.base(work.job)):
        raise ConfigError(
            f"{subject.title} is an encoder and can't generate text.",
            fix="Choose the form merged.",
            field="form",
        )


def check_tools() -> None:
    """Raise StateError with install instructions if the converter or the library is missing."""
    external_tools.find_converter()
    llama_library.load_library()


def _is_encoder(source: str) -> bool:
    return loading.is_encoder(loading.load_config(source))


def _disable_bos(work: ExportTask, merged: Path) -> None:
    """Disable adding a BOS token where the template writes it, as most readers would do both."""
    tokenizer = work.tokenizer()
    if not tokenizer.bos_token:
        return
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    settings = read_json(merged / "tokenizer_config.json")
    adds = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    settings["add_bos_token"] = adds and not text.startswith(tokenizer.bos_token)
    write_json(merged / "tokenizer_config.json", settings)


def convert(folder: Path, target: Path, name: str) -> list[str]:
    """Convert the model in `folder` to an F16 file; return notices.

    Raises: ModelError with the converter's error.
    """
    tool = external_tools.find_converter()
    command = [sys.executable, "-P", str(SCRIPT), str(folder), "--outtype", "f16"]
    command += ["--outfile", str(target), "--model-name", name]
    environment = os.environ | {"PYTHONPATH": str(tool), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if ran.returncode == 0 and target.exists():
        return [NOTICE] if GUESSED in ran.stderr else []
    last = "\n".join((ran.stderr or ran.stdout).strip().splitlines()[-LAST_LINES:])
    print(last, file=sys.stderr)
    why = last.splitlines()[-1].strip() if last else f"exit code {ran.returncode}"
    raise ModelError(
        f"llama.cpp could not convert the model: {why[:300]}",
        fix="See the job log for its last lines. Architectures that llama.cpp does not support can't be"
        " exported as GGUF.",
        field="form",
    )


# Ollama renders prompts with Go templates, not with Jinja. A template whose renderings have a regular shape
# (each turn between the same two pieces of text, by role) is translated to a Go template that renders the
# same. An irregular one is left to Ollama, which chooses its most similar built-in template, with a notice to
# the user. Text that Ollama's parser drops or cuts (unprintable characters, triple quotes) counts as
# irregular.

SYSTEM, USER, ANSWER = "Sy9#", "Us3%", "An7&"  # texts that no template contains
UNSHAPED = (
    "The chat template can't be translated, so the Modelfile has no TEMPLATE. Ollama falls back to its most"
    " similar built-in template, which may render prompts differently, or to the model's own if none"
    " matches. Compare a prompt before use."
)
TRIMS = (
    "The chat template strips spaces around messages; Ollama templates can't. Messages without such spaces"
    " are rendered identically."
)


@dataclass(frozen=True)
class TurnShape:
    """Text before and after the content of a turn, and the opening of a response.

    begin: start of every conversation; unasked: default system turn of the template, for conversations
    without one.
    """

    begin: str
    unasked: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    opening: str

    @property
    def pieces(self) -> tuple[str, ...]:
        """Return all text pieces around contents."""
        return (self.begin, self.unasked, *self.system, *self.user, *self.answer, self.opening)


def write_ollama(work: ExportTask) -> list[str]:
    """Write the GGUF file and its Modelfile."""
    name = build_file_name(work)
    notices = make_gguf(work, work.folder / name)
    tokenizer = work.tokenizer()
    shape = detect_turn_shape(tokenizer)
    (work.folder / "Modelfile").write_text(build_modelfile(tokenizer, name, shape, work), encoding="utf-8")
    work.note_written()
    if shape is None:
        return [*notices, UNSHAPED]
    return [*notices, TRIMS] if _is_trimmed(tokenizer, shape) else notices


def build_modelfile(tokenizer: Any, name: str, shape: TurnShape | None, work: ExportTask) -> str:
    """Return FROM, TEMPLATE, stop tokens and parameters, for greedy decoding as in the evaluation."""
    lines = [f"FROM ./{name}"]
    if shape is not None:
        lines.append(f'TEMPLATE """{build_go_template(shape)}"""')
    stops = dict.fromkeys([tokenizer.eos_token, *_find_stop_tokens(tokenizer, shape)])
    for stop in stops:
        if stop and stop.strip():
            mark = '"""' if '"' in stop else '"'
            lines.append(f"PARAMETER stop {mark}{stop}{mark}")
    # older releases have a repeat penalty by default
    lines += [
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {_read_context(work)}",
    ]
    return "\n".join(lines) + "\n"


def _find_stop_tokens(tokenizer: Any, shape: TurnShape | None) -> list[str]:
    """Return the text that closes a response, if it is a single token.

    Other text may occur within a response.
    """
    closing = shape.answer[1].strip() if shape else ""
    return [closing] if closing in tokenizer.get_added_vocab() else []


def _read_context(work: ExportTask) -> int:
    config = loading.load_config(work.subject.base(work.job)).get_text_config()
    return int(min(getattr(config, "max_position_embeddings", 2048) or 2048, 8192))


def detect_turn_shape(tokenizer: Any) -> TurnShape | None:
    """Return the shape of the template's turns, checked on a conversation of four; None if irregular."""
    try:
        shape = _split_template(tokenizer)
    except ValueError:
        return None
    if shape is None or not all(map(_is_preserved, shape.pieces)):
        return None
    turns = [("system", "A b"), ("user", "C d"), ("assistant", "E f"), ("user", "G h")]
    messages = [{"role": role, "content": text} for role, text in turns]
    want = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return shape if _render(shape, turns) == want and _has_no_default_system(tokenizer, shape) else None


def _is_preserved(text: str) -> bool:
    """Whether Ollama's Modelfile parser leaves the text unchanged."""
    return '"""' not in text and all(sign.isprintable() or sign in "\t\r\n" for sign in text)


def _is_trimmed(tokenizer: Any, shape: TurnShape) -> bool:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": " C d "}], tokenize=False, add_generation_prompt=True
    )
    return bool(_render(shape, [("user", " C d ")]) != text)


def _render(shape: TurnShape, turns: list[tuple[str, str]]) -> str:
    around = {"system": shape.system, "user": shape.user, "assistant": shape.answer}
    begin = shape.begin + ("" if turns[0][0] == "system" else shape.unasked)
    return begin + "".join(around[r][0] + t + around[r][1] for r, t in turns) + shape.opening


def _has_no_default_system(tokenizer: Any, shape: TurnShape) -> bool:
    """Whether a conversation without a system turn renders as the shape does."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "C d"}], tokenize=False, add_generation_prompt=True
    )
    return bool(_render(shape, [("user", "C d")]) == text)


def _split_template(tokenizer: Any) -> TurnShape | None:
    def render(*roles: str, prompt: bool = False) -> str:
        texts = {"system": SYSTEM, "user": USER, "assistant": ANSWER}
        messages = [{"role": role, "content": texts[role]} for role in roles]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))

    whole = render("system", "user", "assistant", prompt=True)
    user, twice = render("user", "assistant"), render("user", "assistant", "user", "assistant")
    opening = whole.removeprefix(render("system", "user", "assistant"))
    if not twice.startswith(user):
        return None
    pair = twice.removeprefix(user)
    bare = user.removesuffix(pair)
    if bare + pair != user:
        return None
    before_user, _, rest = pair.partition(USER)
    middle, _, end = rest.partition(ANSWER)
    if not middle.endswith(opening) or not opening:
        return None
    before_system, _, after_system = whole.removesuffix(pair + opening).partition(SYSTEM)
    begin, unasked = (bare, "") if before_system.startswith(bare) else ("", bare)
    around = (before_system.removeprefix(begin), after_system)
    after_user = middle.removesuffix(opening)
    return TurnShape(begin, unasked, around, (before_user, after_user), (opening, end), opening)


def build_go_template(shape: TurnShape) -> str:
    """Return the equivalent Go template over Ollama's messages."""

    def turn(role: str, around: tuple[str, str]) -> str:
        before, after = map(_escape_go, around)
        return f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'

    parts = [turn("system", shape.system), turn("user", shape.user), turn("assistant", shape.answer)]
    unasked = ""
    if shape.unasked:
        without = '{{ if ne (index .Messages 0).Role "system" }}'
        unasked = f"{without}{_escape_go(shape.unasked)}{{{{ end }}}}"
    turns = f"{{{{ range .Messages }}}}{''.join(parts)}{{{{ end }}}}"
    return f"{_escape_go(shape.begin)}{unasked}{turns}{_escape_go(shape.opening)}"


def _escape_go(text: str) -> str:
    """Escape text that Go would parse as an action."""
    return text.replace("{{", '{{ "{{" }}')
