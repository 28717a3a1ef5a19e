"""Table of export formats: what each one is, which engine loads it, and its limits of quality loss.

A format's limits determine whether an export is still equivalent to the evaluated model. They apply to the
Kullback–Leibler divergence from the model to its export (nats per token, over the model's own answers) and
to the share of tokens with the same most likely token. An export passes below `passes` (above, for the
share), fails beyond `fails`, and gets a warning in between. With fewer rows than `count_rows_to_pass` the
result is inconclusive. `why` explains the limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Family = Literal["adapter", "weights", "quantised", "gguf", "ollama"]
Reader = Literal["transformers", "llama.cpp"]
RequestedReader = Literal["usual", "vllm"]  # the format's own reader, or vLLM
FEW_OTHER = 0.02  # share of prompts read or answered differently: a warning; significantly more fails
FAMILY_TITLES: dict[Family, str] = {
    "adapter": "Adapter",
    "weights": "Full weights",
    "quantised": "Quantized weights",
    "gguf": "GGUF",
    "ollama": "Ollama",
}


@dataclass(frozen=True)
class ParityLimits:
    """Limits of a format. kl: mean, nats per token; argmax: share of tokens. Each is (passes, fails)."""

    kl: tuple[float, float]
    argmax: tuple[float, float]
    why: str


EXACT = ParityLimits(
    (2e-3, 2e-2),
    (0.96, 0.9),
    "rounding affects only the last of 11 binary digits",
)
NEAR = ParityLimits((0.03, 0.12), (0.91, 0.84), "8 bits per weight have little effect on responses")
ROUNDED = ParityLimits(
    NEAR.kl,
    NEAR.argmax,
    "bfloat16 has 8 bits of precision and rounds small weight changes",
)
SIX = ParityLimits((0.05, 0.18), (0.89, 0.81), "between 8 and 5 bits per weight")
FIVE = ParityLimits((0.1, 0.3), (0.86, 0.77), "between 8 and 4 bits per weight")
RECKONED = ParityLimits(FIVE.kl, FIVE.argmax, "activations are quantized to 8 bits as well")
FOUR = ParityLimits(
    (0.2, 0.6), (0.8, 0.68), "typical loss of a small model at 4 bits; large models lose less"
)
FEWER = ParityLimits((0.5, 1.2), (0.7, 0.55), "below 4 bits per weight, every model loses quality")


@dataclass(frozen=True)
class ExportForm:
    """An export format.

    when: intended use. bits: approximate bits per weight on disk, for an estimate of the required space; 0
    for an adapter, whose size is known. reader: the engine that loads it. ftype: file type in llama.cpp's
    table. needs_merge: whether it contains full weights, so that an adapter is merged first. headed:
    whether it supports a classification head.
    """

    name: str
    title: str
    family: Family
    when: str
    bits: float
    limits: ParityLimits
    reader: Reader = "transformers"
    ftype: int = 0
    needs_merge: bool = True
    headed: bool = True


def _make_gguf_form(
    name: str, title: str, when: str, bits: float, limits: ParityLimits, ftype: int
) -> ExportForm:
    return ExportForm(
        f"gguf-{name}", title, "gguf", when, bits, limits, reader="llama.cpp", ftype=ftype, headed=False
    )


FORMS: dict[str, ExportForm] = {
    form.name: form
    for form in (
        ExportForm(
            "adapter", "Adapter", "adapter",
            "Small; loads with peft on top of the base model.",
            0, EXACT, needs_merge=False,
        ),
        ExportForm(
            "merged", "Merged", "weights",
            "Full weights as safetensors, for any tool that loads Hugging Face models.",
            16, ROUNDED,
        ),
        ExportForm(
            "merged-f32", "Merged, 32-bit", "weights",
            "Full weights as safetensors at twice the size, without rounding.",
            32, EXACT,
        ),
        ExportForm(
            "int8", "8-bit", "quantised",
            "Full weights in 8 bits (bitsandbytes), for transformers on a GPU with little memory.",
            8.5, NEAR,
        ),
        ExportForm(
            "int4", "4-bit", "quantised",
            "Full weights in 4 bits (bitsandbytes, NF4), for transformers when 8-bit does not fit.",
            4.7, FOUR,
        ),
        ExportForm(
            "compressed-tensors", "8-bit for vLLM", "quantised",
            "Full weights in 8 bits as compressed-tensors, for vLLM on a GPU.",
            8.5, NEAR, headed=False,
        ),
        ExportForm(
            "compressed-tensors-w8a8", "8-bit for vLLM, W8A8", "quantised",
            "Weights and activations in 8 bits, for vLLM on a GPU or CPU: faster, with a higher quality"
            " loss.",
            8.2, RECKONED, headed=False,
        ),
        _make_gguf_form("f16", "GGUF F16", "For llama.cpp, 16-bit without quantization.", 16, EXACT, 1),
        _make_gguf_form("q8_0", "GGUF Q8_0", "For llama.cpp at half the size; recommended.", 8.5, NEAR,
            7),
        _make_gguf_form("q6_k", "GGUF Q6_K", "For llama.cpp, smaller than Q8_0.", 6.6, SIX, 18),
        _make_gguf_form("q5_k_m", "GGUF Q5_K_M", "For llama.cpp, smaller than Q6_K.", 5.7, FIVE, 17),
        _make_gguf_form("q4_k_m", "GGUF Q4_K_M", "For llama.cpp with little memory.", 4.9, FOUR, 15),
        _make_gguf_form("q3_k_m", "GGUF Q3_K_M", "For llama.cpp when nothing else fits.", 3.9, FEWER, 12),
        _make_gguf_form("q2_k", "GGUF Q2_K", "The smallest; noticeable quality loss.", 3.2, FEWER, 10),
        ExportForm(
            "ollama", "Ollama", "ollama",
            "A GGUF file and a Modelfile with template, stop tokens and parameters.",
            8.5, NEAR, reader="llama.cpp", headed=False,
        ),
    )
}  # fmt: skip
GGUF_FORMS: tuple[str, ...] = tuple(name for name, form in FORMS.items() if form.family == "gguf")
COMPRESSED: tuple[str, ...] = tuple(name for name in FORMS if name.startswith("compressed-tensors"))
VLLM_READS: tuple[str, ...] = ("adapter", "merged", "merged-f32", *COMPRESSED)
OLLAMA_GGUF = "gguf-q8_0"  # default GGUF format for Ollama


def count_rows_to_pass() -> int:
    """Return how many sampled rows are needed for 95% confidence that few prompts have a different answer."""
    return math.ceil(math.log(0.05) / math.log1p(-FEW_OTHER))


USUAL_ROWS = count_rows_to_pass() + 1  # default number of rows


def get_limits(form: str, gguf: str = OLLAMA_GGUF) -> ParityLimits:
    """Return the limits of a format; for Ollama, those of its GGUF format."""
    return FORMS[gguf if form == "ollama" else form].limits


def get_file_form(form: str, gguf: str = OLLAMA_GGUF) -> ExportForm:
    """Return the format of the weights; for Ollama, its GGUF format."""
    return FORMS[gguf if form == "ollama" else form]
