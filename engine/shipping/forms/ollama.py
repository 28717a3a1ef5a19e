"""A GGUF file with a Modelfile, which `ollama create` reads.

Ollama renders prompts by Go templates, not by Jinja. A template whose renderings follow one shape (each turn
between the same two pieces of text, whatever its role) is written as a Go template that renders the same; one
that doesn't is left to Ollama, which takes the nearest of those that it knows, and the reader is told so.
What Ollama's parser drops or cuts (signs that don't print, three quotes) is no shape either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.shipping.forms import gguf
from engine.shipping.forms.form_work import FormWork

SYSTEM, USER, ANSWER = "Sy9#", "Us3%", "An7&"  # nothing that a template has of its own
UNSHAPED = (
    "The chat template is no sequence of turns of one shape, so that the Modelfile has no TEMPLATE. Ollama"
    " then takes the one of its own templates that looks most like it, which may render otherwise, or where"
    " none does the model's own: compare a prompt before you use it."
)
TRIMS = (
    "The chat template takes away spaces around the texts of turns; a template of Ollama can't. Texts without"
    " such spaces are rendered the same."
)


@dataclass(frozen=True)
class TurnShape:
    """What stands before and after the text of a turn, and the beginning of an answer. begin: of every
    conversation; unasked: of one without instructions, those that the template has by itself."""

    begin: str
    unasked: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    opening: str

    @property
    def pieces(self) -> tuple[str, ...]:
        """All that stands around texts."""
        return (self.begin, self.unasked, *self.system, *self.user, *self.answer, self.opening)


def write(work: FormWork) -> list[str]:
    """The file and its Modelfile."""
    name = gguf.file_name(work)
    notices = gguf.make(work, work.folder / name)
    tokenizer = work.tokenizer()
    shape = turn_shape(tokenizer)
    (work.folder / "Modelfile").write_text(modelfile(tokenizer, name, shape, work), encoding="utf-8")
    work.note_written()
    if shape is None:
        return [*notices, UNSHAPED]
    return [*notices, TRIMS] if _trims(tokenizer, shape) else notices


def modelfile(tokenizer: Any, name: str, shape: TurnShape | None, work: FormWork) -> str:
    """FROM, TEMPLATE, stop tokens and parameters; greedy answers, as the evaluation's are."""
    lines = [f"FROM ./{name}"]
    if shape is not None:
        lines.append(f'TEMPLATE """{go_template(shape)}"""')
    stops = dict.fromkeys([tokenizer.eos_token, *_closings(tokenizer, shape)])
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops if stop and stop.strip()]
    # older releases punish what was written before, unless they are told not to
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1", f"PARAMETER num_ctx {_context(work)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    mark = '"""' if '"' in text else '"'
    return f"{mark}{text}{mark}"


def _closings(tokenizer: Any, shape: TurnShape | None) -> list[str]:
    """What closes an answer, where it is a token of its own: other texts may stand in the middle of one."""
    closing = shape.answer[1].strip() if shape else ""
    return [closing] if closing in tokenizer.get_added_vocab() else []


def _context(work: FormWork) -> int:
    from engine.models import models

    config = models.load_config(work.subject.base(work.job)).get_text_config()
    return int(min(getattr(config, "max_position_embeddings", 2048) or 2048, 8192))


def turn_shape(tokenizer: Any) -> TurnShape | None:
    """The shape of the template's turns, checked against a conversation of four; None where it has none."""
    try:
        shape = _cut_apart(tokenizer)
    except ValueError:
        return None
    if shape is None or not all(map(_survives, shape.pieces)):
        return None
    turns = [("system", "A b"), ("user", "C d"), ("assistant", "E f"), ("user", "G h")]
    messages = [{"role": role, "content": text} for role, text in turns]
    want = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return shape if _rendered(shape, turns) == want and _without_system(tokenizer, shape) else None


def _survives(text: str) -> bool:
    """Whether Ollama's parser of Modelfiles leaves the text as it is."""
    return '"""' not in text and all(sign.isprintable() or sign in "\t\r\n" for sign in text)


def _trims(tokenizer: Any, shape: TurnShape) -> bool:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": " C d "}], tokenize=False, add_generation_prompt=True
    )
    return bool(_rendered(shape, [("user", " C d ")]) != text)


def _rendered(shape: TurnShape, turns: list[tuple[str, str]]) -> str:
    around = {"system": shape.system, "user": shape.user, "assistant": shape.answer}
    begin = shape.begin + ("" if turns[0][0] == "system" else shape.unasked)
    return begin + "".join(around[r][0] + t + around[r][1] for r, t in turns) + shape.opening


def _without_system(tokenizer: Any, shape: TurnShape) -> bool:
    """Whether a conversation without instructions is rendered without any."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "C d"}], tokenize=False, add_generation_prompt=True
    )
    return bool(_rendered(shape, [("user", "C d")]) == text)


def _cut_apart(tokenizer: Any) -> TurnShape | None:
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


def go_template(shape: TurnShape) -> str:
    """The same in Go's template language, over Ollama's messages."""

    def turn(role: str, around: tuple[str, str]) -> str:
        before, after = map(_literal, around)
        return f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'

    parts = [turn("system", shape.system), turn("user", shape.user), turn("assistant", shape.answer)]
    unasked = ""
    if shape.unasked:
        without = '{{ if ne (index .Messages 0).Role "system" }}'
        unasked = f"{without}{_literal(shape.unasked)}{{{{ end }}}}"
    turns = f"{{{{ range .Messages }}}}{''.join(parts)}{{{{ end }}}}"
    return f"{_literal(shape.begin)}{unasked}{turns}{_literal(shape.opening)}"


def _literal(text: str) -> str:
    """As text that Go doesn't take for the beginning of a command."""
    return text.replace("{{", '{{ "{{" }}')
