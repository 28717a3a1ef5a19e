"""What an export of a model is asked: of which model, in which form, held against the model on which rows."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from store.core.config import Config, FolderSource, Line
from store.core.schemas import ConfigDocument
from store.evaluation.config import Checkpoint, Part
from store.export.forms import (
    FORMS,
    GGUF_FORMS,
    OLLAMA_GGUF,
    USUAL_ROWS,
    VLLM_READS,
    RequestedReader,
    count_rows_to_pass,
)


class ParityTarget(Config):
    """Against which model an export is held, on which rows. `subject` is a run by id or name, or a registered
    version: NAME@3, NAME@production."""

    subject: Line = Field(min_length=1, max_length=160, description="A run, or a version as NAME@3")
    checkpoint: Checkpoint = Field("tuned", description="Of a run: tuned (as it ended), best or newest")
    dataset: Line = Field(
        "", max_length=120, description="Rows that model and export both answer; the run's own where left out"
    )
    part: Part = Field("test", description="Of that data set; validation where the run has no test rows")
    max_rows: int = Field(
        USUAL_ROWS,
        ge=8,
        le=2_000,
        description=f"Rows that both answer, at most; to pass takes {count_rows_to_pass()}",
    )
    max_new_tokens: int = Field(64, ge=1, le=1_024, description="Of each answer, at most")

    @field_validator("checkpoint")
    @classmethod
    def _trained(cls, value: Checkpoint) -> Checkpoint:
        if value == "base":
            raise ValueError("the base model is not what the run made; choose tuned, best or newest")
        return value

    def document(self) -> ConfigDocument:
        """As it is stored and sent."""
        return self.model_dump()


class ModelExport(ParityTarget):
    """One export."""

    form: Line = Field(description=f"One of {', '.join(FORMS)}")
    gguf: Line = Field(OLLAMA_GGUF, description="Of the form ollama: which GGUF file it is given")
    zip: bool = Field(False, description="Also as one zip file, to be downloaded")
    hub: Line = Field("", max_length=200, description="Push it to this repository of the hub: owner/name")
    private: bool = Field(True, description="Of a repository that the push makes")
    reader: RequestedReader = Field(
        "usual", description="Which engine reads the export back: the form's own, or vllm"
    )

    @field_validator("form")
    @classmethod
    def _a_form(cls, value: str) -> str:
        if value not in FORMS:
            raise ValueError(f"there is no form {value!r}; there are {', '.join(FORMS)}")
        return value

    @field_validator("gguf")
    @classmethod
    def _a_gguf(cls, value: str, validation: ValidationInfo) -> str:
        if value not in GGUF_FORMS:
            raise ValueError(f"{value!r} is no GGUF form; there are {', '.join(GGUF_FORMS)}")
        if value != OLLAMA_GGUF and validation.data.get("form") != "ollama":
            raise ValueError("only the form ollama is given another file; choose that file's form")
        return value

    @field_validator("reader")
    @classmethod
    def _reads_it(cls, value: RequestedReader, validation: ValidationInfo) -> RequestedReader:
        form = validation.data.get("form")
        if value == "vllm" and form is not None and form not in VLLM_READS:
            raise ValueError(f"vLLM isn't asked to read {form}; it reads {', '.join(VLLM_READS)}")
        return value

    @field_validator("hub")
    @classmethod
    def _repository(cls, value: str) -> str:
        owner, slash, name = value.partition("/")
        if value and not (slash and owner and name and "/" not in name):
            raise ValueError(f"{value!r} is no repository; write owner/name")
        return value


class ModelVerify(ParityTarget):
    """A folder or a GGUF file that is to be the model: an export that is here, or one that came back."""

    path: FolderSource = Field(
        "", max_length=1_000, description="A folder, or a GGUF file; or else an export"
    )
    export: Line = Field(
        "", max_length=120, validate_default=True, description="An export by its id, as it lies here"
    )
    form: Line = Field("", description="What it is told to be; read from its files where left out")

    @field_validator("export")
    @classmethod
    def _of_one(cls, value: str, validation: ValidationInfo) -> str:
        if bool(value) == bool(validation.data.get("path")):
            raise ValueError("name either a path or an export")
        return value

    @field_validator("form")
    @classmethod
    def _a_form(cls, value: str) -> str:
        if value and value not in FORMS:
            raise ValueError(f"there is no form {value!r}; there are {', '.join(FORMS)}")
        return value

    def as_export(self, form: str, gguf: str) -> ModelExport:
        """The export that it is to be."""
        held = {name: getattr(self, name) for name in ParityTarget.model_fields}
        return ModelExport.parse({**held, "form": form, "gguf": gguf if form == "ollama" else OLLAMA_GGUF})


class ExportReference(Config):
    """An export by the id of its job."""

    export: Line = Field(min_length=1, max_length=120)
