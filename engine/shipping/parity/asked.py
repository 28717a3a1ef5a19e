"""What crosses the processes of a parity check: files in a folder, documents of these types.

questions.json   what the export is asked (`ParityQuestions`), the rows themselves among it: the process may
                 belong to another environment, which has no reader of data sets
likeliest.npz    what the model held for likely: of each text its LIKELIEST tokens at every place, and their
                 log-probabilities; of a model that classifies those of all classes
reference.json   what the model answered, for the job's own process
tokenizer/       that of the model
answered.json    what the export made of it (`ParityAnswers`), written last
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

from store.documents.shipping.parity import RenderingParity

# What reads it; "transformers alone": in an environment that has little else.
ParityReader = Literal["transformers", "transformers alone", "llama.cpp", "vllm"]
LIKELIEST = 1_024  # tokens whose probabilities are compared one by one; all others count as one


class ParityTexts(TypedDict):
    """Texts as token ids; `places` of each: those of its tokens that are predicted."""

    ids: list[list[int]]
    places: list[list[int]]


class ParityQuestions(TypedDict):
    """One export, and the rows that it is asked. Prompts that were drawn come first, the longest after."""

    reader: ParityReader
    export: str  # path of its folder, or of the GGUF file
    base: str | None  # beneath an adapter
    labels: list[str] | None
    row_ids: list[int]
    contents: list[Any]  # messages or text of each row; none of a model that classifies
    drawn: int
    rendered: list[str]
    prompt_ids: list[list[int]]
    positions: int | None
    max_new_tokens: int
    kl_fails: float  # nats a token, beyond which the form has failed
    device: str
    dtype: str
    rope_base: float | None
    begin_token: int | None
    answers: ParityTexts  # the prompts with the model's answers
    rows: ParityTexts  # the drawn rows with their own answers
    rows_of: list[int]  # of each of them its place among the prompts
    joined: ParityTexts  # several rows put together, as long as the model can read


class ParityAnswers(TypedDict):
    """What the export made of the questions. A list has an entry for each text; null for one whose prompt it
    reads otherwise."""

    engine: str
    rendering: RenderingParity
    same_ids: list[bool]
    kl: list[list[float] | None]
    same_best: list[list[bool] | None]
    joined_kl: list[list[float]]
    loss_sum: list[float]
    answers: list[list[int] | None]  # to drawn prompts
    classes: list[list[float]]  # log-probabilities of each drawn row, of a model that classifies
    tokens_per_second: float | None
    rope_base: float | None
    context: int | None
    zeroed: list[str]  # matrices that are nothing but zeros
    not_finite: int  # places at which it gives no numbers
    sure_after: int | None  # rows, after which it was sure that the form has failed; no more were asked


class ParityFolder:
    """The files by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def questions(self) -> Path:
        return self.path / "questions.json"

    @property
    def likeliest(self) -> Path:
        return self.path / "likeliest.npz"

    @property
    def reference(self) -> Path:
        return self.path / "reference.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def answered(self) -> Path:
        return self.path / "answered.json"
