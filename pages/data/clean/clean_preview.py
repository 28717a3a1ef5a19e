"""What would become of the rows by the recipe: step by step, and before and after on real rows."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows.fate_counts import changes, rows_before, rows_left
from pages.shared import figures, quantities, word_diff
from pages.shared.session import plain
from store.documents.data.clean_preview import CleanPreview, FateExample
from store.documents.data.fates import Fate, Fates, StepCounts
from store.documents.tables.dataset import Dataset

FATE_TITLES: dict[Fate, tuple[str, str]] = {
    "changed": (":orange-badge[:material/edit: Changed]", "Changed"),
    "dropped": (":red-badge[:material/delete: Dropped]", "Dropped"),
    "added": (":blue-badge[:material/add: Added]", "Added"),
    "kept": (":green-badge[:material/check: Kept]", "Kept"),
}
PAGE = 6  # examples at a time


def summary(answer: CleanPreview) -> str:
    """ "2,211 rows become 1,688: 523 dropped, 0 changed, 0 added."; of a part of the rows nothing that could
    be taken for a promise."""
    fates = answer["fates"]
    before = rows_before(fates)
    did = ", ".join(changes(fates)) or "all kept as they are"
    if not (scope := answer.get("of")):
        return f"{plural(before, 'row')} become {rows_left(fates):,}: {did}."
    return f"How many of {scope['total']:,} rows stay isn't known yet. Of the first {before:,}: {did}."


def not_known(answer: CleanPreview) -> str:
    """Why a part of the rows doesn't tell of all; "" where all were counted."""
    if not answer.get("of"):
        return ""
    if not (unknown := answer.get("unknown")):
        return "The other rows may be different."
    names = "; ".join(f"step {step['step'] + 1} ({step['title']})" for step in unknown)
    return f"It looks across rows, and does more the more rows there are: {names}."


def beside(answer: CleanPreview, fates: Fates) -> str:
    """What the preview said and what came of it, in one sentence."""
    made, total = rows_left(fates), rows_before(fates)
    previewed = rows_left(answer["fates"])
    now = f"{made:,} rows came of {total:,}"
    scope = answer.get("of")
    if not scope:
        return f"The preview said {previewed:,} rows; {now}."
    shares = quantities.share(previewed, scope["rows"]), quantities.share(made, total)
    looked_at = f"{previewed:,} of the first {scope['rows']:,} rows"
    return f"The preview left {looked_at} ({shares[0]}); {now} ({shares[1]})."


def show_preview(dataset: Dataset, answer: CleanPreview) -> None:
    """Counts, steps and examples of one answer of the ask."""
    st.subheader("What would become of the rows", anchor=False)
    for problem in answer["problems"]:
        st.warning(plain(f"{problem['message']} {problem['fix']}".strip()), icon=":material/warning:")
    if scope := answer.get("of"):
        st.caption(f"Tried on the first rows of a large data set: {scope['rows']:,} of {scope['total']:,}.")
    fates = answer["fates"]
    total = rows_before(fates)
    counts = [
        (title, f"{rows:,}", f"{quantities.share(rows, total)} of {total:,}")
        for title, rows in (
            ("Kept", fates["kept"]),
            ("Changed", fates["changed"]),
            ("Dropped", fates["dropped"]),
        )
    ]
    counts.append(("Added", f"{fates['added']:,}", "rows of another data set"))
    st.html(figures.facts(counts))
    steps_list(fates["steps"])
    _examples(dataset["dataset_id"], answer["examples"])


def steps_list(steps: list[StepCounts]) -> None:
    """Each step in a line: what it does to the rows, and how many go on."""
    lines = []
    for index, step in enumerate(steps, 1):
        did = [f"**{change}**" for change in changes(step)]
        did += [f"{step['rows_out']:,} left"] if did else [f"nothing to do, {step['rows_out']:,} left"]
        lines.append(f"{index}. {plain(step['title'])}: {', '.join(did)}")
    st.markdown("\n".join(lines))


def _examples(dataset_id: str, examples: list[FateExample]) -> None:
    if not examples:
        st.caption("No row changes.")
        return
    fates = [fate for fate in FATE_TITLES if any(example["fate"] == fate for example in examples)]
    chosen = st.segmented_control(
        "Examples",
        fates,
        selection_mode="multi",
        format_func=lambda fate: FATE_TITLES[fate][1],
        key=f"clean-fates-{dataset_id}",
        label_visibility="collapsed",
    )
    chosen_examples = [example for example in examples if not chosen or example["fate"] in chosen]
    pages = -(-len(chosen_examples) // PAGE)
    slot = st.container(gap="small")
    page = st.pagination(pages, key=f"clean-examples-{dataset_id}-{chosen}") if pages > 1 else 1
    with slot:
        st.caption(f"{plural(len(chosen_examples), 'example')}, the words that change are marked.")
        for example in chosen_examples[(page - 1) * PAGE : page * PAGE]:
            show_example(example)


def show_example(
    example: FateExample, titles: tuple[str, str] = ("Before", "After"), badges: dict[str, str] | None = None
) -> None:
    """One row with what became of it. `badges`: other words for fates."""
    row_id = example["row_id"]
    where = f"Row {row_id:,}" if row_id is not None else "New row"
    with st.container(border=True, gap="xsmall"):
        reason = f" {plain(example['reason'])}" if example["reason"] else ""
        badge = (badges or {}).get(example["fate"], FATE_TITLES[example["fate"]][0])
        st.markdown(f"{badge} **{where}**{reason}")
        after = None if example["fate"] == "dropped" else example["after"]
        before = None if example["fate"] == "added" else example["before"]
        if example["fate"] == "kept":
            before = None
        st.html(word_diff.pair(before, after, titles))
