"""The rates whose truth is known, as they come with the package: whole, of this code, as in docs."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest

from bench import truth
from bench.truths import Observed, Rate
from store.core.errors import StateError
from store.evaluation import simulated_truth
from store.evaluation.schemas import SimulatedRate, SimulatedTopic, SimulatedTruth
from tests.shapes import faults

ROOT = Path(__file__).parents[3]
STAMP = truth.Stamp("2026-11-30", "abc1234", 1.0)


def rate(name: str, observed: float | None = 0.95, low: float = 0.93, high: float = 0.97) -> SimulatedRate:
    holds = observed is not None and low <= observed <= high
    return {
        **{"name": name, "draws": 1_000, "nominal": 0.95, "low": low, "high": high},
        **{"observed": observed, "holds": holds},
    }


def topic(
    name: str, *rates: SimulatedRate, date: str = "2026-11-30", commit: str = "abc1234"
) -> SimulatedTopic:
    return {
        **{"topic": name, "about": f"Does {name} hold?", "date": date, "commit": commit, "share": 1.0},
        **{"seconds": 2.0, "rates": list(rates)},
    }


def test_the_file_has_every_rate_of_the_code_and_no_other() -> None:
    kept = {
        entry["topic"]: [rate["name"] for rate in entry["rates"]]
        for entry in simulated_truth.read()["topics"]
    }
    coded = {name: [rate.name for rate in truth.rates(name)] for name in truth.modules()}
    stale = sorted(name for name in kept.keys() | coded.keys() if kept.get(name) != coded.get(name))
    assert stale == [], f"run: {simulated_truth.COMMAND} --only {' '.join(stale)}"


def test_the_file_is_a_document_whose_verdicts_follow_from_its_figures() -> None:
    kept = simulated_truth.read()
    assert faults(kept, SimulatedTruth) == []
    for entry in kept["topics"]:
        for each in entry["rates"]:
            share = each["observed"]
            assert (share is None) == (each["draws"] == 0), each
            measured = Observed(
                Rate("", "", each["nominal"], each["low"], each["high"], lambda _: True),
                math.nan if share is None else share,
                each["draws"],
            )
            assert each["holds"] == measured.holds, each


def test_the_page_is_what_the_file_gives() -> None:
    page = (ROOT / "docs" / "truth.md").read_text("utf-8")
    assert page == simulated_truth.format_truth_page(), "run: python -m store.documentation.reference_tables"


def test_every_topic_is_in_one_folder_and_says_what_it_asks() -> None:
    files = [path for folder in truth.FOLDERS for path in ROOT.joinpath(*folder.split(".")).rglob("*.py")]
    assert sorted(path.stem for path in files if path.stem != "__init__") == list(truth.modules())
    assert [name for name in truth.modules() if len(truth.about(name)) < 20] == []


def test_every_rate_is_in_the_tables_once() -> None:
    for entry in simulated_truth.read()["topics"]:
        drawn = [
            each["name"]
            for table in simulated_truth.build_tables(entry["rates"])
            for row in table.rows
            for each in row.rates.values()
        ]
        assert sorted(drawn) == sorted(each["name"] for each in entry["rates"])


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("gain covers: t4, even lengths, n 1,000", ("gain covers: t4, even lengths", "", 1_000)),
        ("not worse, 50 rows, truly worse: passed", ("not worse, n rows, truly worse: passed", "rows", 50)),
        ("3 tasks of 10 rows: covers", ("3 tasks of n rows: covers", "rows", 10)),
        ("96 openings of 4, alike 0.5", ("n openings of 4, alike 0.5", "openings", 96)),
        ("3 + 3 rows, harder by 0.3", ("3 + 3 rows, harder by 0.3", "", 0)),
        ("another one is", ("another one is", "", 0)),
    ],
)  # fmt: skip
def test_a_size_is_taken_out_of_a_name(name: str, left: tuple[str, str, int]) -> None:
    assert simulated_truth.split_size(name) == left


def test_sizes_become_columns_where_nothing_else_differs() -> None:
    sized = [rate(f"covers, {shape}, n {n}") for shape in ("t4", "normal") for n in (100, 10)]
    other = rate("covers, t4, n 500", 0.02, low=0.0, high=0.05)
    matrix, single = simulated_truth.build_tables([*sized, other, rate("in 20 rows"), rate("alone")])
    assert (matrix.unit, matrix.sizes) == ("", (10, 100))
    assert [(row.name, row.wanted, list(row.rates)) for row in matrix.rows] == [
        ("covers, t4", "93 to 97%", [10, 100]), ("covers, normal", "93 to 97%", [10, 100]),
    ]  # fmt: skip
    assert [(row.name, row.wanted) for row in single.rows] == [
        ("covers, t4, n 500", "at most 5%"), ("in 20 rows", "93 to 97%"), ("alone", "93 to 97%"),
    ]  # fmt: skip


def test_a_topic_takes_the_place_of_its_older_self_and_leaves_the_others() -> None:
    old: SimulatedTruth = {
        "topics": [topic("gain", rate("a")), topic("gates", rate("b")), topic("gone", rate("c"))]
    }
    new = topic("gain", rate("a", 0.94), date="2026-12-01", commit="def5678")
    merged = truth.merged(old, new, {"gain": "", "gates": "", "arms": ""})
    assert merged == {"topics": [new, topic("gates", rate("b"))]}
    assert simulated_truth.describe_measurement(merged["topics"]) == (
        "from 2026-11-30 to 2026-12-01 at 2 commits; each topic names its own"
    )


def test_what_was_measured_is_written_topic_by_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_truth, "PATH", tmp_path / "truth.json")
    coin = Rate("gain", "coin", 0.5, 0.4, 0.6, lambda rng: True, 10)
    never = Rate("gain", "never counts", 0.95, 0.93, 0.97, lambda rng: None, 10)
    measured = [
        truth.Measured("gain", Observed(coin, 1.0, 10), 0.5),
        truth.Measured("gain", Observed(never, float("nan"), 0), 0.75),
        truth.Measured("gates", Observed(coin, 0.5, 10), 1.0),
    ]
    monkeypatch.setattr(truth, "measure", lambda chosen, share: iter(measured))
    assert truth.table(["gain", "gates"], 1.0, STAMP) == 2
    gain, gates = simulated_truth.read()["topics"]
    assert [(each["name"], each["observed"], each["draws"], each["holds"]) for each in gain["rates"]] == [
        ("coin", 1.0, 10, False), ("never counts", None, 0, False),
    ]  # fmt: skip
    assert (gain["date"], gain["commit"], gain["seconds"]) == ("2026-11-30", "abc1234", 1.2)
    assert simulated_truth.count_holding_rates([gain, gates]) == (1, 3)
    assert faults(simulated_truth.read(), SimulatedTruth) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "truth.json"]


def test_a_commit_is_named_of_files_that_are_of_it_alone(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        order = ["git", *who, *words]
        return subprocess.run(order, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "Begin")
    commit = git("rev-parse", "--short", "HEAD").strip()
    assert truth.commit_of(tmp_path, dirty=False) == commit
    own = tmp_path / simulated_truth.PATH.relative_to(ROOT)
    own.parent.mkdir(parents=True)
    own.write_text("{}")
    assert truth.commit_of(tmp_path, dirty=False) == commit  # what the command writes itself
    (tmp_path / "code.py").write_text("2")
    with pytest.raises(StateError, match=r"1 files? differ.*code\.py"):
        truth.commit_of(tmp_path, dirty=False)
    assert truth.commit_of(tmp_path, dirty=True) == f"{commit}-dirty"


def test_the_page_says_what_does_not_hold_before_all_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "truth.json"
    part = topic("gain", rate("covers, n 10", 0.91), rate("covers, n 30"), rate("none", None))
    path.write_text(truth.as_text({"topics": [topic("arms", rate("alone")), part | {"share": 0.02}]}))
    monkeypatch.setattr(simulated_truth, "PATH", path)
    page = simulated_truth.format_truth_page()
    assert "**2 of 4 rates on target**, measured on 2026-11-30 at commit abc1234." in page
    assert "1 of 2 topics used a part of their draws (2%)" in page
    assert page.index("| Gain: covers, n 10 | 1,000 | 93 to 97% | **91.0%** |") < page.index("## Arms")
    assert "| covers | 1,000 | 93 to 97% | **91.0%** | 95.0% |" in page
    assert "| none | 1,000 | 93 to 97% | **no draw counted** |" in page
    shares = [topic(name, rate("alone")) | {"share": share} for name, share in (("a", 0.3), ("b", 0.05))]
    assert "2 of 2 topics used a part of their draws (5 to 30%)" in simulated_truth.describe_subset(shares)
    path.unlink()
    assert "Nothing was measured yet" in simulated_truth.format_truth_page()
