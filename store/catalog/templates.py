"""Chat templates that many models share, for models that bring none or that are to speak another one.

Jinja over `messages`, `add_generation_prompt`, `bos_token` and `eos_token`, as tokenizers take it.
"""

from __future__ import annotations

_CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token or '' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] }}"
    "{{ '<|end_header_id|>\n\n' + m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_HEADINGS = (  # plain words, and the end-of-text token after each answer, so that a tuned model stops
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '### Assistant:\n' + m['content'] + eos_token + '\n' }}"
    "{% else %}{{ '### ' + m['role'] | capitalize + ':\n' + m['content'] + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)

TEMPLATES: dict[str, str] = {
    "chatml": _CHATML,
    "llama3": _LLAMA3,
    "zephyr": _ZEPHYR,
    "headings": _HEADINGS,
}


def template_text(chosen: str) -> str:
    """The Jinja of a template given by name, or as it is."""
    return TEMPLATES.get(chosen.strip(), chosen)
