"""config.json, tokenizer_config.json and the like, for readers of different releases.

Settings with different names in older and newer releases are written under both, and local paths are removed.
Invariant: light to import, as the parity check imports it in other environments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.core.job_folder import read_json, write_json

ModelSettings = dict[str, Any]


# transformers 5 writes `rope_parameters` and `dtype`; code that reads `rope_theta` and `torch_dtype` would
# silently fall back to 10,000 and to fp32. The chat template is read from its own file or from
# tokenizer_config.json, generation tokens from generation_config.json or from config.json.

MACHINE_KEYS = ("_name_or_path", "name_or_path")


def complete_settings(folder: Path) -> None:
    """Complete each pair of settings, and remove local paths."""
    for file in ("config.json", "generation_config.json", "tokenizer_config.json"):
        document = read_json(folder / file)
        if document is None:
            continue
        changed = {
            key: value
            for key, value in document.items()
            if not (key in MACHINE_KEYS and isinstance(value, str) and Path(value).is_absolute())
        }
        if file == "config.json":
            _write_model_twice(changed)
            for part in ("text_config", "llm_config"):
                if isinstance(changed.get(part), dict):
                    _write_model_twice(changed[part])
        if file == "tokenizer_config.json":
            _add_chat_template(folder, changed)
        write_json(folder / file, changed)


def _write_model_twice(config: ModelSettings) -> None:
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            config.setdefault("rope_scaling", {k: v for k, v in rope.items() if k != "rope_theta"})
    if dtype := config.get("dtype") or config.get("torch_dtype"):
        config["dtype"] = config["torch_dtype"] = dtype


def _add_chat_template(folder: Path, config: ModelSettings) -> None:
    file = folder / "chat_template.jinja"
    if file.exists():
        config["chat_template"] = file.read_text(encoding="utf-8")
    elif isinstance(config.get("chat_template"), str):
        file.write_text(config["chat_template"], encoding="utf-8")


def read_rope_base(config: ModelSettings) -> float | None:
    """Return the base of the rotary positions in a config.json; None if missing."""
    rope = config.get("rope_parameters")
    value = (rope.get("rope_theta") if isinstance(rope, dict) else None) or config.get("rope_theta")
    return None if value is None else float(value)
