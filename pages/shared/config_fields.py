"""Widgets for the fields of a run, generated from `TrainConfig` so that form, YAML and engine agree, and
conversion of their values.

Each field is kept in the session under `launch.FIELD`. Text fields keep the typed text even if it is not a
number, so that the error can be shown at the field. An empty field means the automatic default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.shared import cached_queries
from pages.shared.features import place_behind
from pages.shared.model_form import format_note, validate_fields
from store.core import model_fields
from store.core.schemas import ConfigDocument
from store.training import setting_conflicts
from store.training.methods import METHOD_FIELDS, METHODS
from store.training.run_switches import list_run_switches
from store.training.setting_conflicts import explain_refused_change
from store.training.train_config import TrainConfig


def get_default(field: str) -> Any:
    """The default of a field; None if it is derived from other fields."""
    return model_fields.get_default(TrainConfig.model_fields[field])


def list_choices(field: str) -> tuple[str, ...]:
    """The values of a field with a fixed set of values; empty for other fields."""
    return model_fields.read_kind(TrainConfig.model_fields[field].annotation).choices


def format_value(value: Any) -> str:
    """A value as a text field shows it: 0.0001 rather than 1e-04, lists with commas, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    if isinstance(value, float):
        short = f"{value:.10f}".rstrip("0").rstrip(".") if 1e-5 <= abs(value) < 1e9 else f"{value:g}"
        return short if float(short or "0") == value else repr(value)
    return str(value)


def parse_value(field: str, text: str) -> Any:
    """Parse a text field: a number if it is one, else the text, which validation then judges."""
    text = text.strip()
    if field == "target_modules" and text not in ("all-linear", "keys-values-mlp"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if TrainConfig.model_fields[field].annotation is str:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def validate_config(document: Mapping[str, Any]) -> tuple[TrainConfig | None, dict[str, str]]:
    """The config or None, and the errors by field (all of them, not only the first)."""
    config, problems = validate_fields(TrainConfig, document)
    return config, {field: str(problem) for field, problem in problems.items()}


PREFIX = "launch."


@dataclass(frozen=True)
class FieldGroup:
    """Fields drawn together, in this order."""

    title: str
    icon: str
    fields: tuple[str, ...]


def _build_group(title: str, icon: str, names: tuple[str, ...]) -> FieldGroup:
    """With the switches of features that belong behind one of its fields."""
    own = [(each.name, each.after, "") for each in list_run_switches() if each.after in names]
    return FieldGroup(title, icon, tuple(place_behind(dict.fromkeys(names, ""), own)))


OPTIMISATION = _build_group(
    "Optimization",
    ":material/trending_down:",
    (
        "learning_rate",
        "lr_scheduler_type",
        "warmup_steps",
        "num_train_epochs",
        "max_steps",
        "weight_decay",
        "max_grad_norm",
        "optim",
    ),
)
BATCHES = _build_group(
    "Batches and length",
    ":material/view_week:",
    (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "per_device_eval_batch_size",
        "max_length",
        "max_train_rows",
        "gradient_checkpointing",
    ),
)
PREFERENCE = _build_group("Preference", ":material/thumbs_up_down:", ("beta", "loss_type", "label_smoothing"))
EVALUATION = _build_group(
    "Evaluation and stopping",
    ":material/flag:",
    (
        "evaluations",
        "max_eval_rows",
        "validation_size",
        "test_size",
        "early_stopping",
        "early_stopping_patience",
        "early_stopping_threshold",
        "load_best_model_at_end",
        "negligible_gain",
        "probes",
        "probe_share",
        "probe_datasets",
        "probe_rows",
        "probe_tasks",
        "probe_task_rows",
        "max_forgetting",
        "live_metric",
        "canaries",
        "sample_prompts",
        "max_new_tokens",
    ),
)
AGAINST_FORGETTING = _build_group(
    "Against forgetting", ":material/psychology:", ("replay_share", "replay_dataset", "kl_beta")
)
RENDERING = _build_group(
    "What the loss falls on",
    ":material/format_ink_highlighter:",
    ("completion_only_loss", "chat_template", "gate_override"),
)
REPRODUCIBILITY = _build_group(
    "Reproducibility", ":material/replay:", ("seed", "dtype", "split_seed", "split_by", "split_column")
)
GROUPS = (PREFERENCE, OPTIMISATION, BATCHES, RENDERING, AGAINST_FORGETTING, EVALUATION, REPRODUCIBILITY)
COLUMNS = 3
TASK_FIELDS = ("probe_tasks", "probe_task_rows")  # read only by lm-evaluation-harness
DATASET_FIELDS = ("probe_datasets",)  # fields that take several data sets
EMPTY_PLACEHOLDERS = {  # meaning of an empty field
    "max_steps": "no limit",
    "max_train_rows": "all rows",
    "max_forgetting": "never",
    "live_metric": "token_f1, where training pays for it",
    "replay_dataset": "the base model's own texts",
    "probe_datasets": "none",
    "probe_tasks": "none, or task, task",
    "chat_template": "the model's own",
    "gate_override": "only where the check fails",
    "loraplus_lr_ratio": "off",
    "encoder_hidden_size": "the model's own",
    "adapter_layers": "all but two",
}


def get_method_fields(method: str) -> FieldGroup:
    """The fields read only by this method or by it among others."""
    return FieldGroup(METHODS[method].title, ":material/extension:", METHODS[method].fields)


def build_widget_key(field: str) -> str:
    """The session key of the field's widget."""
    return PREFIX + field


def fill_widgets(document: Mapping[str, Any]) -> None:
    """Set every widget from a config document. Call it before the widgets are drawn, or in a callback."""
    set_fields({field: document.get(field, get_default(field)) for field in TrainConfig.model_fields})


def set_fields(changes: Mapping[str, Any]) -> None:
    """Set some fields and keep the others; None clears a field. As `fill_widgets`, call it before the widgets
    are drawn.
    """
    for field, value in changes.items():
        keeps_type = list_choices(field) or isinstance(get_default(field), bool) or field in DATASET_FIELDS
        st.session_state[build_widget_key(field)] = value if keeps_type else format_value(value)


def read_document() -> ConfigDocument:
    """The config as entered, not validated, without empty and irrelevant fields."""
    values: ConfigDocument = {}
    method = METHODS.get(st.session_state.get(build_widget_key("method"), ""))
    for field in TrainConfig.model_fields:
        if method and field in METHOD_FIELDS and field not in method.fields:
            continue
        if method and field == "kl_beta" and not method.adapter:
            continue
        if (
            field in (*AGAINST_FORGETTING.fields, "canaries")
            and st.session_state.get(build_widget_key("task"), "sft") != "sft"
        ):
            continue
        value = st.session_state.get(build_widget_key(field))
        if isinstance(value, str) and not list_choices(field):
            value = parse_value(field, value) if value.strip() else None
        if value is not None and value != []:
            values[field] = value
    return values


def draw_group(
    group: FieldGroup,
    resolved: Mapping[str, Any],
    notes: dict[str, list[tuple[str, str]]],
    config: TrainConfig | None = None,
) -> None:
    """Draw the group's fields in columns, then its switches.

    `notes` is field -> [(level, message)], drawn under the field. Values that cannot be combined with the
    rest of `config` are disabled, with the reason as help.
    """
    st.markdown(f"{group.icon} **{group.title}**")
    switches = [field for field in group.fields if isinstance(get_default(field), bool)]
    typed = [field for field in group.fields if field not in switches]
    for start in range(0, len(typed), COLUMNS):
        for column, field in zip(st.columns(COLUMNS), typed[start : start + COLUMNS], strict=False):
            with column:
                draw_field(field, resolved, config)
                draw_notes(field, notes)
    with st.container(horizontal=True, gap="medium"):
        for field in switches:
            refused = _check_value(config, field, True)
            st.toggle(
                field,
                key=build_widget_key(field),
                help=refused or TrainConfig.model_fields[field].description,
                disabled=bool(refused),
                persist_state="session",
                width="content",
            )
    for field in switches:
        draw_notes(field, notes)


def _check_value(config: TrainConfig | None, field: str, value: Any) -> str:
    """The reason why the field cannot have this value, unless it has it already."""
    if config is None or getattr(config, field) == value:
        return ""
    return explain_refused_change(config, field, value)


def draw_field(field: str, resolved: Mapping[str, Any], config: TrainConfig | None = None) -> None:
    """Draw a select box or text field, labelled with the field's Hugging Face name. Choices that cannot be
    combined are left out, and the help says why.
    """
    help_text = TrainConfig.model_fields[field].description
    if list_choices(field):
        refused = {value: _check_value(config, field, value) for value in list_choices(field)}
        reasons = "  \n".join(dict.fromkeys(f"**{value}**: {why}" for value, why in refused.items() if why))
        st.selectbox(
            field,
            [value for value, why in refused.items() if not why],
            key=build_widget_key(field),
            help="  \n".join(part for part in (help_text, reasons) if part) or None,
            persist_state="session",
        )
        return
    if field in DATASET_FIELDS:
        _draw_datasets(field, help_text)
        return
    automatic = resolved.get(field)
    placeholder = format_value(automatic if automatic is not None else get_default(field))
    absent = field in TASK_FIELDS and not setting_conflicts.has_harness()
    st.text_input(
        field,
        key=build_widget_key(field),
        help=help_text,
        placeholder=f"{placeholder} (automatic)"
        if placeholder
        else EMPTY_PLACEHOLDERS.get(field, "automatic"),
        persist_state="session",
        # a value from a link or YAML stays editable, so that it can be cleared
        disabled=absent
        and (st.session_state.get(build_widget_key(field)) or "") == format_value(get_default(field)),
    )
    if absent and field == "probe_tasks":
        st.caption(
            f"{setting_conflicts.MISSING} Install it with `{setting_conflicts.COMMAND}`, then restart"
            " Tunebench."
        )


def _draw_datasets(field: str, help_text: str | None) -> None:
    """Draw a multiselect of data sets. A data set that no longer exists stays listed, so that it can be
    removed.
    """
    chosen = st.session_state.get(build_widget_key(field)) or []
    names = [row.name for row in cached_queries.list_datasets()]
    st.multiselect(
        field,
        list(dict.fromkeys([*names, *chosen])),
        key=build_widget_key(field),
        help=help_text,
        placeholder=EMPTY_PLACEHOLDERS[field],
        persist_state="session",
    )


def draw_notes(field: str, notes: dict[str, list[tuple[str, str]]]) -> None:
    """Draw the problems of one field directly below it."""
    for level, message in notes.get(field, ()):
        st.markdown(format_note(level, message))
