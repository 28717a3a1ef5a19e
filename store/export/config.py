"""Configs for exporting models and for comparing an export with its model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from store.core.config import Config, FolderSource, Line
from store.core.model_fields import FieldDisplay
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
    """Model and rows that an export is compared with. `subject` is a run by id or name, or a registered
    version: NAME@3, NAME@production.
    """

    subject: Line = Field(min_length=1, max_length=160, description="A run, or a model version as NAME@3")
    checkpoint: Checkpoint = Field("tuned", description="Checkpoint of a run: tuned (final), best or newest")
    dataset: Line = Field(
        "",
        max_length=120,
        title="Comparison rows",
        description="Data set for the comparison; default: the run's own",
    )
    part: Part = Field("test", description="Split of the data set; validation if there are no test rows")
    max_rows: int = Field(
        USUAL_ROWS,
        ge=8,
        le=2_000,
        title="Maximum rows",
        description=f"Maximum rows to compare; passing requires {count_rows_to_pass()}",
    )
    max_new_tokens: int = Field(64, ge=1, le=1_024, description="Maximum new tokens per response")

    @field_validator("checkpoint")
    @classmethod
    def _trained(cls, value: Checkpoint) -> Checkpoint:
        if value == "base":
            raise ValueError("the base model can't be exported; choose tuned, best or newest")
        return value

    def document(self) -> ConfigDocument:
        """Return the config as it is stored and sent."""
        return self.model_dump()


class ModelExport(ParityTarget):
    """Config of an export."""

    form: Line = Field(title="Format", description=f"One of {', '.join(FORMS)}")
    gguf: Line = Field(OLLAMA_GGUF, title="GGUF format", description="GGUF format for the form ollama")
    zip: bool = Field(False, title="Create a zip file", description="Also create a zip file for download")
    hub: Annotated[Line, FieldDisplay(empty="owner/name (optional)")] = Field(
        "",
        max_length=200,
        title="Push to the Hugging Face Hub",
        description="Push to this Hugging Face Hub repository, owner/name, with the token of this machine"
        " (hf auth login, or HF_TOKEN), which is never stored; not pushed if the parity check fails",
    )
    private: bool = Field(True, title="Private repository", description="Make a new Hub repository private")
    reader: RequestedReader = Field(
        "usual",
        description="Engine that loads the export for the comparison: usual (the format's own) or vllm",
    )

    @field_validator("form")
    @classmethod
    def _a_form(cls, value: str) -> str:
        if value not in FORMS:
            raise ValueError(f"unknown form {value!r}; choose one of {', '.join(FORMS)}")
        return value

    @field_validator("gguf")
    @classmethod
    def _a_gguf(cls, value: str, validation: ValidationInfo) -> str:
        if value not in GGUF_FORMS:
            raise ValueError(f"{value!r} is not a GGUF form; choose one of {', '.join(GGUF_FORMS)}")
        if value != OLLAMA_GGUF and validation.data.get("form") != "ollama":
            raise ValueError("only the format ollama uses gguf; choose the GGUF format itself")
        return value

    @field_validator("reader")
    @classmethod
    def _reads_it(cls, value: RequestedReader, validation: ValidationInfo) -> RequestedReader:
        form = validation.data.get("form")
        if value == "vllm" and form is not None and form not in VLLM_READS:
            raise ValueError(f"vLLM can't load {form}; it loads {', '.join(VLLM_READS)}")
        return value

    @field_validator("hub")
    @classmethod
    def _repository(cls, value: str) -> str:
        owner, slash, name = value.partition("/")
        if value and not (slash and owner and name and "/" not in name):
            raise ValueError("not a repository name; use owner/name")
        return value


class ModelVerify(ParityTarget):
    """Compare a folder or a GGUF file with the model: an existing export or one that was copied back."""

    path: FolderSource = Field(
        "", max_length=1_000, description="A folder or a GGUF file, instead of an export"
    )
    export: Line = Field(
        "", max_length=120, validate_default=True, description="Id of an export on this machine"
    )
    form: Line = Field("", description="Expected format; default: detected from the files")

    @field_validator("export")
    @classmethod
    def _of_one(cls, value: str, validation: ValidationInfo) -> str:
        if bool(value) == bool(validation.data.get("path")):
            raise ValueError("give either a path or an export")
        return value

    @field_validator("form")
    @classmethod
    def _a_form(cls, value: str) -> str:
        if value and value not in FORMS:
            raise ValueError(f"unknown form {value!r}; choose one of {', '.join(FORMS)}")
        return value

    def as_export(self, form: str, gguf: str) -> ModelExport:
        """Return the config of the expected export."""
        held = {name: getattr(self, name) for name in ParityTarget.model_fields}
        return ModelExport.parse({**held, "form": form, "gguf": gguf if form == "ollama" else OLLAMA_GGUF})


class ExportReference(Config):
    """Reference to an export by the id of its job."""

    export: Line = Field(min_length=1, max_length=120)
