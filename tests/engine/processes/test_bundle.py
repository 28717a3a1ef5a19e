"""A run leaves one home as a file and comes back in another, by the command line and real workers."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.archives import archive_file
from tests.engine.houses import RUN, House, write_sums
from tests.tiny import write_model
from tunebench.commands.archives import open_bundle


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Path]]:
    """A house with a run that has finished, and its bundle."""
    folder = tmp_path_factory.mktemp("bundles")
    house = House(folder / "first")
    write_sums(folder / "sums.jsonl")
    (folder / "run.yaml").write_text(RUN)
    try:
        house("import", str(folder / "sums.jsonl"), "--name", "Sums")
        house("launch", str(folder / "run.yaml"), "--wait")
        bundle = folder / "first.zip"
        house("bundle", "First", "--out", str(bundle))
        yield house, bundle
    finally:
        house("down")


def test_a_bundle_says_what_it_is_and_nothing_of_the_machine(first: tuple[House, Path]) -> None:
    house, bundle = first
    with zipfile.ZipFile(bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name, content in contents.items():
        assert str(house.home.path.parent).encode() not in content, name
    manifest = json.loads(contents["manifest.json"])
    assert manifest["config"]["model"] == "tiny"
    assert manifest["base"]["fingerprint"]
    assert {file["path"] for file in manifest["files"]} == {*contents} - {"manifest.json", "seal.json"}
    gain = next(figure for figure in manifest["figures"] if figure["key"] == "gain")
    assert gain["low"] < gain["value"] < gain["high"]
    assert manifest["environment"]["versions"]["torch"]


def test_every_figure_comes_back_in_another_house(first: tuple[House, Path], tmp_path: Path) -> None:
    _, bundle = first
    other = House(tmp_path / "other")
    try:
        answer = other.ask("reproduce", str(bundle))
        result = answer["reproduction"]
        assert result["same"] == len(result["figures"]) >= 4, result["figures"]
        assert result["sentence"].endswith("reproduced exactly.")
        assert answer["opened"]["base"] == "same"
        assert result["differences"] == []
        assert "first.zip of the run First" in other("show", answer["run_id"])
        run = other.ask("show", answer["run_id"])
        assert run["facts"]["reproduces"]["run_name"] == "First"
        assert [row["name"] for row in other.ask("data", "list")["datasets"]] == ["Sums"]

        # another base model under the same name: said, and seen in the figures
        write_model(other.home.models / "tiny", seed=5, initializer_range=0.3)
        again = other.ask("reproduce", str(bundle), "--name", "Another base", code=7)
        assert again["opened"]["base"] == "other"
        assert again["reproduction"]["outside"] >= 1
        assert any(row["what"] == "weights of the base model" for row in again["reproduction"]["differences"])
        loss = next(row for row in again["reproduction"]["figures"] if row["key"] == "loss.base")
        assert (loss["came"], loss["paired"]) == ("outside", True)
    finally:
        other("down")


def test_without_its_rows_a_bundle_runs_where_they_are(first: tuple[House, Path], tmp_path: Path) -> None:
    house, _ = first
    small = tmp_path / "recipe.zip"
    house("bundle", "First", "--out", str(small), "--recipe-only")
    with zipfile.ZipFile(small) as archive:
        assert "rows.parquet" not in archive.namelist()
    job_id, opened = open_bundle(house.client, small)
    assert (opened.taken, opened.refused) == (None, None)
    manifest = json.loads((house.home.jobs / job_id / "manifest.json").read_text())
    os.rename(house.home.datasets / manifest["data"]["fingerprint"], tmp_path / "elsewhere")
    assert "neither in the bundle nor on this machine" in open_bundle(house.client, small)[1].refused
    os.rename(tmp_path / "elsewhere", house.home.datasets / manifest["data"]["fingerprint"])


def rewritten(bundle: Path, target: Path, *, sealed: bool) -> Path:
    """With another learning rate in its manifest; sealed: by somebody who makes all checksums anew."""
    with zipfile.ZipFile(bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    manifest = contents["manifest.json"].replace(b'"learning_rate": 0.005', b'"learning_rate": 0.05')
    assert manifest != contents["manifest.json"]
    contents["manifest.json"] = manifest
    if sealed:
        contents["seal.json"] = archive_file.write_seal(manifest)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


def test_a_changed_learning_rate_is_not_the_original_run(first: tuple[House, Path], tmp_path: Path) -> None:
    house, bundle = first
    careless = rewritten(bundle, tmp_path / "careless.zip", sealed=False)
    assert "'config.learning_rate' is '0.05'" in house("reproduce", str(careless), code=2)
    forged = rewritten(bundle, tmp_path / "forged.zip", sealed=True)
    answer = house.ask("reproduce", str(forged), "--name", "Forged", code=7)
    original = answer["opened"]["original"]
    assert original["differences"] == [{"field": "config.learning_rate", "bundle": "0.05", "here": "0.005"}]
    assert not original["written_here"]
    beside = answer["reproduction"]["beside"]
    differing = {line["what"]: line for line in beside["lines"] if line["same"] is False}
    assert differing["Setting learning_rate"]["second"] == "0.05"
    assert "nats apart from step" in differing["Training loss"]["detail"]
    assert "learning_rate" in beside["sentence"]


def test_beside_the_original_in_the_same_home_all_is_the_same(first: tuple[House, Path]) -> None:
    house, bundle = first
    answer = house.ask("reproduce", str(bundle), "--name", "Same home")
    assert answer["opened"]["original"]["differences"] == []
    assert answer["opened"]["original"]["written_here"]
    lines = {line["what"]: line for line in answer["reproduction"]["beside"]["lines"]}
    assert [what for what, line in lines.items() if line["same"] is not True] == []
    assert {"Settings", "Rows (fingerprint)", "Split", "Steps"} <= {*lines}
    for title in ("Training loss", "Validation loss"):
        assert lines[title]["detail"] == "Identical at every step."
    page = house("show", answer["run_id"])
    assert "Matches the original run First" in page
    assert answer["opened"]["seal"] in house("reproduce", str(bundle), "--no-wait", "--name", "Later")
