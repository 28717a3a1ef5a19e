"""`python -m store.documentation.configuration_page` writes docs/configuration.md, every field of every file
that people write, and a JSON Schema of each to docs/schemas, which editors check files by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from store.core.config import Config
from store.core.features import FileKind, load_store_features, resolve_name
from store.core.schemas import JsonObject

DOCS = Path(__file__).parents[2] / "docs"
CORE_FILES = (
    FileKind("run", "Run", "store.training.train_config:TrainConfig", "tunebench launch FILE"),
    FileKind("recipe", "Recipe", "store.data.cleaning:Recipe", "tunebench data clean NAME FILE"),
    FileKind("evaluation", "Evaluation", "store.evaluation.config:EvaluateConfig", "tunebench evaluate FILE"),
)
HEAD = """# Configuration files

Every field of every file that people write, drawn from the code by `make docs`. Files are YAML (or JSON); an
unknown field is an error that names it, a field that is left out has its default. What a form of the screens
sends is the same document. An editor with a YAML language server checks a file and completes its fields where
the first line is `# yaml-language-server: $schema=PATH/docs/schemas/run.schema.json`.

| file | read by | schema |
|---|---|---|
"""
REFERENCE = "#/$defs/"
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "maxLength": "{} characters at most",
    "maxItems": "{} at most",
}

Schema = Mapping[str, Any]  # JSON Schema, as pydantic writes it


def list_files() -> list[FileKind]:
    """Those of the core, then those of the features."""
    return [*CORE_FILES, *(kind for feature in load_store_features().values() for kind in feature.files)]


def build_schema(kind: FileKind) -> JsonObject:
    """The JSON Schema of a file, for editors."""
    config: type[Config] = resolve_name(kind.config)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **config.model_json_schema(),
        "title": kind.title,
    }


def render_files() -> dict[str, str]:
    """Path within docs -> text, of the page and of each schema."""
    schemas = {kind: build_schema(kind) for kind in list_files()}
    files = {
        f"schemas/{kind.name}.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
        for kind, schema in schemas.items()
    }
    return {"configuration.md": _render_page(schemas), **files}


def _render_page(schemas: Mapping[FileKind, Schema]) -> str:
    lines, parts = [HEAD.rstrip()], dict[str, Schema]()
    for kind in schemas:
        path = f"schemas/{kind.name}.schema.json"
        lines.append(
            f"| [{kind.title}](#{_build_anchor(kind.title)}) | `{kind.command}` | [{path}]({path}) |"
        )
    for kind, schema in schemas.items():
        lines += ["", f"## {kind.title}", *_render_model(schema)]
        parts |= schema.get("$defs", {})
    lines += ["", "# Parts", "What several files, or lists in them, are made of."]
    for name, schema in sorted(parts.items()):
        if "properties" in schema:
            lines += ["", f"## {name}", *_render_model(schema)]
    return "\n".join([*lines, ""])


def _build_anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return title.lower().replace(" ", "-")


def _render_model(schema: Schema) -> Iterator[str]:
    yield " ".join(schema.get("description", "").split())
    yield from ("", "| field | type | default | |", "|---|---|---|---|")
    for name, field in schema.get("properties", {}).items():
        required = name in schema.get("required", ())
        default = "required" if required else _format_default(field)
        about = _escape(" ".join(field.get("description", "").split()))
        yield f"| `{name}` | {_describe_type(field)} | {default} | {about} |"


def _format_default(field: Schema) -> str:
    value = field.get("default")
    return "" if value is None or value in ("", [], {}) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _describe_type(schema: Schema) -> str:
    """In words, with its bounds; a part leads to its table."""
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if reference := schema.get("$ref"):
        name = reference.removeprefix(REFERENCE)
        return f"[{name}](#{_build_anchor(name)})"
    if choices:
        return " or ".join(dict.fromkeys(map(_describe_type, choices)))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{json.dumps(value, ensure_ascii=False)}`" for value in values)
    kind = schema.get("type", "any value")
    if kind == "array":
        kind = f"list of {_describe_type(schema['items'])}" if schema.get("items") else "list"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        kind = f"mapping of names to {_describe_type(schema['additionalProperties'])}"
    bounds = [words.format(schema[key]) for key, words in BOUNDS.items() if key in schema]
    return _escape(", ".join([str(kind), *bounds]))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page and the schemas."""
    for name, text in render_files().items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
