"""docs/documents.md says what the types say, and a wrong key is found before anything runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from store.core.config import read_yaml
from store.core.figure_schemas import Estimate
from store.documentation import configuration_page
from store.documentation.schemas_page import format_schemas_page
from tests.shapes import faults
from tunebench.commands_page import format_page

ROOT = Path(__file__).parents[3]
MISSPELLED = """
from store.core.figure_schemas import Estimate

def width(estimate: Estimate) -> float:
    return (estimate.hihg or 0.0) - (estimate.low or 0.0)
"""


def test_the_page_is_what_the_types_give() -> None:
    page = (ROOT / "docs" / "documents.md").read_text("utf-8")
    assert page == format_schemas_page(), (
        "run: python -m store.documentation.schemas_page > docs/documents.md"
    )


def test_the_page_of_commands_is_what_the_command_line_says() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    assert page == format_page(), "run: make docs"
    assert page.count("\n## tunebench ") > 80


def test_commands_of_the_readme_are_there() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    headings = set(re.findall(r"^## tunebench (.+)$", page, re.MULTILINE))
    commands = re.findall(
        r"^tunebench ([a-z-]+(?: [a-z-]+)?)(.*)$", (ROOT / "README.md").read_text("utf-8"), re.M
    )
    assert len(commands) > 7
    for name, rest in commands:
        command = name if name in headings else name.split()[0]
        assert command in headings, name
        section = page.split(f"## tunebench {command}\n")[1].split("\n## ")[0]
        for option in re.findall(r"--[a-z-]+", rest.split("#")[0]):
            assert f"`{option}`" in section, (command, option)


def test_the_page_of_configuration_and_its_schemas_are_what_the_models_say() -> None:
    rendered = configuration_page.render_files()
    assert len(rendered) > 7
    for name, text in rendered.items():
        assert (ROOT / "docs" / name).read_text("utf-8") == text, f"{name}: run make docs"
    assert {path.name for path in (ROOT / "docs" / "schemas").iterdir()} == {
        Path(n).name for n in rendered
    } - {"configuration.md"}


@pytest.mark.parametrize(
    ("name", "place", "document"),
    [
        ("run", None, {"dataset": "d", "method": "lora", "learning_rate": 2e-4, "num_train_epochs": 2}),
        ("run", "method", {"dataset": "d", "method": "lorra"}),
        ("run", "", {"dataset": "d", "learning_rte": 1}),
        ("gate", None, {"checks": [{"check": "bias_under"}]}),
        ("gate", "checks.0", {"checks": [{"check": "latency_under", "seconds": -1}]}),
    ],
)
def test_an_editor_finds_what_the_engine_refuses(name: str, place: str | None, document: object) -> None:
    schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text("utf-8"))
    faulty = sorted(Draft202012Validator(schema).iter_errors(document), key=lambda error: error.path)
    assert [".".join(map(str, error.absolute_path)) for error in faulty] == ([] if place is None else [place])


def test_yaml_of_the_readme_fits_its_schema() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    run, recipe = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    for name, text in (("run", run), ("recipe", recipe)):
        schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text("utf-8"))
        Draft202012Validator(schema).validate(read_yaml(text))


def test_mypy_finds_a_misspelled_field(tmp_path: Path) -> None:
    (tmp_path / "misspelled.py").write_text(MISSPELLED)
    order = [sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", str(tmp_path), "misspelled.py"]
    done = subprocess.run(order, cwd=tmp_path, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True)
    assert '"Estimate" has no attribute "hihg"' in done.stdout
    assert "Found 1 error" in done.stdout


def test_a_document_is_held_to_its_type() -> None:
    assert faults({"value": 1, "low": None, "high": 2.0, "n": 3}, Estimate) == []
    assert faults({"value": 1, "low": None, "high": 2.0, "n": 3, "why": "so few"}, Estimate) == []
    assert faults({"value": "1", "low": None, "hihg": 2.0, "n": True}, Estimate) == [
        ".hihg: unknown to Estimate",
        ".value: str for <class 'float'>",
        ".high: missing of Estimate",
        ".n: a flag for a number",
    ]
