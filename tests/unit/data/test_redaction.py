"""Redaction: what is found in a row is gone from every column, sidecar and export of the version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data import export_job, measurement_job
from engine.data.cleaning.text_steps import Redactor
from store.core.documents import parse_document
from store.core.home import Home
from store.data.signals import GROUPS
from store.jobs.schemas import JobSpec
from tests.unit.data_job import make_job
from tests.unit.recipe_samples import Cleaned, make, run

IBAN = "DE89 3704 0044 0532 0130 00"
CARD = 4111111111111111
MAIL = "ann.lee@mail.example.org"
PHONE = "4155552671"
SECRETS = (IBAN, str(CARD), MAIL, PHONE)
KINDS = ["email", "phone", "card", "iban", "ip", "ssn", "secret"]
REDACT = {"step": "redact", "kinds": KINDS}


def bytes_of(folder: Path) -> bytes:
    """Every byte below a folder, Parquet also as the text of its columns (it is compressed)."""
    import pyarrow.parquet as pq

    whole = b""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole += path.read_bytes()
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                lines = [json.dumps(row, default=str, ensure_ascii=False) for row in table.to_pylist()]
                whole += "\n".join(lines).encode() + str(table.schema.metadata).encode()
    return whole


def planted() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"prompt": f"How is {n}?", "completion": f"It is {n}.", "account": None} for n in range(8)
    ]
    rows[0] |= {"prompt": f"My account is {IBAN}.", "account": IBAN}
    rows[1] |= {"completion": f"Write to {MAIL}, please.", "by": {"name": "A", MAIL: [MAIL, CARD]}}
    rows[2] |= {
        "card": CARD,
        "phone": PHONE,
        "note": f"call\n{PHONE}",
    }  # in columns that nothing is read from
    rows[3] |= {"prompt": f"Is {PHONE} mine?", "phone": int(PHONE)}  # a phone number, says the column
    return rows


def cleaned(home: Home, rows: list[dict[str, Any]], *steps: dict[str, Any]) -> tuple[dict[str, Any], Cleaned]:
    dataset = make(home, rows)
    return dataset, run(home, dataset, *steps)


def test_no_byte_of_the_new_version_holds_what_was_redacted(home: Home) -> None:
    mail = {"conditions": [{"column": "source.note", "op": "contains", "value": PHONE}]}
    drop = {"step": "filter", "where": mail, "action": "drop", "reason": f"noted {MAIL}"}
    dataset, made = cleaned(home, planted(), drop, REDACT, {"step": "balance", "column": "source.account"})
    old = bytes_of(home.datasets / dataset["fingerprint"])
    assert all(secret.encode() in old for secret in SECRETS)
    new = home.datasets / made.result["fingerprint"]
    order = {
        "dataset": {**dataset, **{k: made.result[k] for k in ("fingerprint", "row_count")}, "signals": {}}
    }
    for group in (name for name, group in GROUPS.items() if group.automatic):
        job = make_job(home, "profile", {"dataset": "x", "group": group})
        job.spec.update(order)
        measurement_job.run(job)
        home.signals(made.result["fingerprint"], group).parent.mkdir(exist_ok=True)
        (job.dir.path / f"{group}.parquet").rename(home.signals(made.result["fingerprint"], group))
    content = bytes_of(new)
    assert [secret for secret in SECRETS if secret.encode() in content] == []
    assert b"[IBAN]" in content
    assert json.loads(made.rows[1]["source"])["by"] == {"name": "A", "[EMAIL]": ["[EMAIL]", "[CARD]"]}
    exported(home, order, drop)
    files = bytes_of(home.exports)
    assert b"[EMAIL]" in files
    assert [secret for secret in SECRETS if secret.encode() in files] == []


def exported(home: Home, order: dict[str, Any], drop: dict[str, Any]) -> None:
    """In every form, with the card that tells of a recipe whose filter named a value."""
    dataset = order["dataset"]
    recipe = {"steps": [drop, REDACT]}
    steps = [{"title": "", **dict.fromkeys(("rows_in", "changed", "dropped", "added", "rows_out"), 0)}] * 2
    first = {
        **{"name": "Old", "source": {"path": "a"}, "columns": {}, "format": "prompt_completion"},
        **{
            "row_count": 8,
            "skipped_count": 0,
            "stats": {},
            "recipe": None,
            "fates": None,
            "created_at": "2026",
        },
    }
    fates = {**dict.fromkeys(("kept", "changed", "dropped", "added"), 0), "steps": steps}
    history = [first, {**first, "name": "New", "recipe": recipe, "fates": fates}]
    for format in ("messages", "prompt_completion", "csv", "parquet"):
        job = make_job(home, "export", {"dataset": "x", "format": format})
        details = {"dataset": dataset, "history": history, "figures": {}}
        job.spec.update(parse_document(JobSpec, details))
        export_job.run(job)


def test_labels_and_rejected_answers_are_redacted_too(home: Home) -> None:
    pairs = [{"prompt": "p", "chosen": "good", "rejected": f"ask {MAIL}", "other": f"from {MAIL}"}] * 2
    _, made = cleaned(home, pairs, REDACT)
    assert made.rows[0]["rejected"] == "ask [EMAIL]"
    assert MAIL not in made.rows[0]["source"]
    labels = [{"text": f"text {n}", "label": MAIL if n == 1 else "plain"} for n in range(4)]
    dataset = make(home, labels, "Labels")
    made = run(home, dataset, REDACT)
    assert [row["label"] for row in made.rows] == ["plain", "[EMAIL]", "plain", "plain"]
    assert MAIL not in json.dumps(made.rows, default=str)


def test_choices_and_every_other_column_of_a_choice_are_redacted_too(home: Home) -> None:
    """A number that only the name of its column gives away is gone from prompt, choices and answer, and the
    row is multiple choice all the same."""
    rows = [
        {"question": "Which?", "choices": [f"ask {MAIL}", "nobody"], "answer": 0, "by": {MAIL: [MAIL]}},
        {"question": "What?", "choices": ["no", PHONE], "answer": 1, "mobile": int(PHONE)},
        {"question": "Whose?", "choices": [IBAN, MAIL], "answer": 1},
    ]
    _, made = cleaned(home, rows, REDACT)
    assert [row["choices"] for row in made.rows] == [
        ["ask [EMAIL]", "nobody"],
        ["no", "[PHONE]"],
        ["[IBAN]", "[EMAIL]"],
    ]
    assert [row["answer_index"] for row in made.rows] == [0, 1, 1]
    assert [row["messages"][-1]["content"] for row in made.rows] == ["ask [EMAIL]", "[PHONE]", "[EMAIL]"]
    text = json.dumps(made.rows, default=str)
    assert [secret for secret in SECRETS if secret in text] == []


def test_a_pair_of_marked_answers_keeps_no_copy_of_the_bad_one(home: Home) -> None:
    rows = [
        {"prompt": f"q{n}", "completion": f"{answer} {n}", "label": good}
        for n in range(4)
        for answer, good in ((f"ask {MAIL}", False), ("good", True))
    ]
    _, made = cleaned(home, rows, REDACT)
    assert [row["rejected"] for row in made.rows] == [f"ask [EMAIL] {n}" for n in range(4)]
    assert all("rejected answer" in json.loads(row["source"]) for row in made.rows)
    assert MAIL not in json.dumps(made.rows, default=str)


def test_a_row_in_which_nothing_is_found_stays_as_it_is_byte_for_byte(home: Home) -> None:
    rows = [{"prompt": "q é", "completion": "a", "number": 1.50, "none": None, "list": [1, "x"]}] * 2
    _, made = cleaned(home, rows, REDACT)
    assert made.changes == []
    source = '{"prompt": "q é", "completion": "a", "number": 1.5, "none": null, "list": [1, "x"]}'
    assert made.rows[0]["source"] == source


def test_rows_that_are_mixed_in_after_the_redaction_are_told_of(home: Home) -> None:
    dataset = make(home, planted())
    other = make(home, [{"prompt": f"q{n}", "completion": MAIL} for n in range(9)], "Other")
    made = run(
        home, dataset, REDACT, {"step": "mix", "dataset": "Other", "share": 0.5}, mixed={"Other": other}
    )
    assert any("added after the redaction" in notice for notice in made.result["stats"]["notices"])


@pytest.mark.parametrize(
    ("texts", "source", "wanted"),
    [
        (["call 4155552671"], {"n": 4155552671, "m": "4155552671!"}, {"n": "[PHONE]", "m": "[PHONE]!"}),
        (["nothing"], {"mobile": "415 555 2671"}, {"mobile": "[PHONE]"}),
        ([f"{MAIL}"], {"deep": [{"mail": MAIL}]}, {"deep": [{"mail": "[EMAIL]"}]}),
        (["ab"], {"order": 41555526, "flag": True}, {"order": 41555526, "flag": True}),
    ],
)
def test_the_row_of_the_file_loses_what_its_texts_lose(texts: list[str], source: Any, wanted: Any) -> None:
    redactor = Redactor(KINDS).of_row(texts, json.dumps(source))
    assert json.loads(redactor.source()) == wanted
