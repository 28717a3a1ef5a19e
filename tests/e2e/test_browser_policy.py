"""What the screens tell a browser, in a browser: every page works under the policy, no text that people wrote
loads anything from elsewhere, and no page of another server shows or embeds ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from store.core.home import Home
from store.db.database import Database
from tests.e2e.started_app import screens_of
from tests.pages.seeds.seed_classes import seed_classes
from tests.pages.seeds.seed_costs import seed_costs
from tests.pages.seeds.seed_evaluations import seed_evaluations
from tests.pages.seeds.seed_improvements import seed_improvements
from tests.pages.seeds.seed_quality import seed_quality
from tests.pages.seeds.seed_rounds import seed_rounds
from tests.pages.seeds.seed_runs import seed_runs
from tests.pages.seeds.seed_transfer import seed_transfer
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.desk import Desk
from tests.unit.registering import finished_run, register
from tunebench.terminal.processes import find_screens_address

pytestmark = pytest.mark.timeout(600)

Seed = Callable[[Path], Home]
AT_REST = '[data-testid="stApp"][data-test-script-state="notRunning"]'
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
  "VIOLATION", event.violatedDirective, event.blockedURI, event.sample));
"""
DONE = ("comment", "next_rating_tasks", "rate", "rounds_to_rate", "begin_conversation")  # not only recorded
WRITTEN = {  # columns of what people write
    "comment": ("text",),
    "conversation": ("title",),
    "dataset": ("name",),
    "endpoint": ("name",),
    "evaluation": ("name", "notes"),
    "rating_item": ("prompt", "answers"),
    "rating_round": ("name",),
    "run": ("name", "notes", "dataset_name"),
    "turn": ("prompt",),
    "turn_answer": ("text",),
}


class Elsewhere(ThreadingHTTPServer):
    """Another server on this machine, with a page that it is given; knows what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[str] = []
        self.page = ""
        self.address = f"http://127.0.0.1:{self.server_port}"

    @property
    def picture(self) -> str:
        """Markdown and HTML that show a picture of it."""
        return f"![a]({self.address}/markdown.png) <img src='{self.address}/html.png'>"


class _Answer(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.page.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is kept."""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@contextmanager
def served(path: Path, seeds: tuple[Seed, ...], picture: str = "") -> Iterator[StillEngine]:
    """Screens before a store with something of much, and an engine that works on nothing. A picture stands in
    every text that people wrote."""
    for seed in seeds:
        home = seed(path)
    if picture:
        write_into_rows(home, picture)
        write_into_store(home, picture)
    with still_engine(home, real=DONE) as engine, screens_of(home):
        yield engine


def write_into_store(home: Home, picture: str) -> None:
    database = Database(home.database, [home.datasets, home.jobs])
    quoted = picture.replace("'", "''")
    with database.transaction() as tx:
        for table, columns in WRITTEN.items():
            for column in columns:
                written = f"{column} || ' {quoted}'"
                if (table, column) == ("rating_item", "answers"):
                    written = f"list_transform(answers, lambda answer: answer || ' {quoted}')"
                if (table, column) == ("rating_item", "prompt"):
                    written = (
                        f"""regexp_replace(prompt::VARCHAR, '"content": ?"', '"content": "{quoted} ', 'g')"""
                    )
                tx.execute(f"UPDATE {table} SET {column} = {written}")
    database.close()


def write_into_rows(home: Home, picture: str) -> None:
    """Rows of data sets, and answers of models beside them."""
    for path in [*home.datasets.rglob("*.parquet"), *home.jobs.rglob("predictions.parquet")]:
        if path.stat().st_size < 16:  # a seed whose rows nobody reads
            continue
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            for name in ("text", "prompt", "prediction", "reference", "rejected"):
                if row.get(name):
                    row[name] += f" {picture}"
            for message in row.get("messages") or []:
                message["content"] += f" {picture}"
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def open_page(page: Page, home: Home, path: str) -> None:
    page.goto(find_screens_address(home, path))
    page.wait_for_url(lambda url: "secret=" not in url)
    settle(page)


def settle(page: Page) -> None:
    """Until the page has run, and what it draws after that has been drawn."""
    page.locator(AT_REST).wait_for()
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    page.wait_for_load_state("networkidle")
    page.locator(AT_REST).wait_for()


def paths(engine: StillEngine, screens: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Every page of these screens, and each with something open; whether its tabs are gone through."""

    def ids(table: str, column: str) -> list[str]:
        rows = engine.database.query(f"SELECT {column} FROM {table}").to_pylist()
        return [str(row[column]) for row in rows]

    runs, rounds = ids("run", "run_id"), ids("rating_round", "round_id")
    datasets, evaluations = ids("dataset", "dataset_id"), ids("evaluation", "evaluation_id")
    models, endpoints = ids("registered_model", "name"), ids("endpoint", "endpoint_id")
    shallow = [
        *("/", "/launch", "/playground", "/data?view=import", "/activity", "/you", "/team", "/rating"),
        *("/models", "/endpoints", "/monitor", "/evaluations", f"/compare?runs={','.join(runs[:3])}"),
        *(f"/compare?tab={tab}" for tab in ("cost", "transfer")),
        *(f"/data?dataset={dataset}&row=1" for dataset in datasets[:1]),
        *(f"/rating?round={round_id}&view=rate" for round_id in rounds[1:2]),
    ]
    deep = [
        *(f"/run?run={run}" for run in runs[:1]),
        *(f"/data?dataset={dataset}" for dataset in datasets[:1]),
        *(f"/evaluations?evaluation={evaluation}" for evaluation in evaluations[:1]),
        *(f"/models?model={name}" for name in models[:1]),
        *(f"/endpoints?endpoint={endpoint}" for endpoint in endpoints[:1]),
        *(f"/monitor?endpoint={endpoint}" for endpoint in endpoints[:1]),
        *(f"/rating?round={round_id}" for round_id in rounds[:1]),
    ]
    listed = [*((path, False) for path in shallow), *((path, True) for path in deep)]
    return [(path, tabs) for path, tabs in listed if path.partition("?")[0] in screens]


def seed_version(path: Path) -> Home:
    """A registered model of a run."""
    desk = Desk(path)
    desk.add_dataset()
    finished_run(desk)
    register(desk)
    desk.database.close()
    return desk.home


def seed_transfer_sets(path: Path) -> Home:
    """Two data sets between which something was transferred."""
    return seed_transfer(path, count=0, sets=2, measured=False)


@pytest.mark.parametrize(
    ("seeds", "screens", "scheme"),
    [
        (
            (seed_improvements, seed_quality, seed_transfer_sets, seed_costs, seed_runs, seed_classes),
            ("/", "/launch", "/data", "/compare", "/run", "/models", "/activity", "/you", "/team"),
            "dark",
        ),
        (
            (seed_rounds, seed_evaluations),
            ("/playground", "/rating", "/evaluations", "/endpoints", "/monitor"),
            "light",
        ),
    ],
)
def test_every_page_and_tab_keeps_to_the_policy_and_asks_nothing_of_others(
    tmp_path: Path,
    browser: Browser,
    elsewhere: Elsewhere,
    seeds: tuple[Seed, ...],
    screens: tuple[str, ...],
    scheme: Any,
) -> None:
    context = browser.new_context(color_scheme=scheme)
    context.add_init_script(TELL_VIOLATIONS)
    page = context.new_page()
    page.set_default_timeout(60_000)
    violations: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "VIOLATION" in message.text and elsewhere.address not in message.text:
            violations.append(f"{page.url}: {message.text[:300]}")

    page.on("console", note)
    with served(tmp_path, seeds, elsewhere.picture) as engine:
        for path, tabs in paths(engine, screens):
            open_page(page, engine.home, path)
            for tab in page.get_by_role("tab").all()[:20] if tabs else ():
                tab.click()
                settle(page)
                views = page.locator("[class*='st-key-run-tabs-'] button")
                expect(views.filter(visible=False)).to_have_count(0)  # those of the tab before are gone
                for view in views.all()[1:]:
                    view.click()
                    settle(page)
    context.close()
    assert (violations, elsewhere.asked) == ([], [])


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Screens before a store with a registered model."""
    with served(tmp_path_factory.mktemp("little"), (seed_version,)) as engine:
        yield engine.home


def test_a_page_of_another_server_that_frames_ours_shows_nothing_of_it(
    little: Home, page: Page, elsewhere: Elsewhere
) -> None:
    open_page(page, little, "/")  # whoever is framed is let in: the other server is of the same site
    ours = page.url
    for path in ("", "run", "_stcore/health", "sign-in"):
        elsewhere.page = f"<h1>Win a prize</h1><iframe src='{ours}{path}'></iframe>"
        page.goto(elsewhere.address)
        expect(page.get_by_role("heading")).to_be_visible()
        framed = page.frames[1]
        expect(page.frame_locator("iframe").get_by_test_id("stApp")).to_have_count(0)
        assert framed.url.startswith("chrome-error:")
        assert "Tunebench" not in framed.content()


def test_a_page_of_another_server_can_neither_run_nor_show_what_is_ours(
    little: Home, page: Page, elsewhere: Elsewhere
) -> None:
    open_page(page, little, "/")
    ours = page.url
    elsewhere.page = f"""<script>const told = []</script>
        <img src='{ours}favicon.png' onload='told.push("shown")' onerror='told.push("refused")'>
        <script src='{ours}_stcore/health' onload='told.push("run")' onerror='told.push("refused")'></script>
        <script>onload = () => document.body.append(told.join(" "))</script>"""
    page.goto(elsewhere.address)
    expect(page.get_by_text("refused refused")).to_be_visible()


def test_what_needs_more_than_a_page_works_under_the_policy(little: Home, page: Page) -> None:
    """A graph that WebAssembly lays out, a bar of tabs that a script brings into view, a file down and up."""
    page.add_init_script(TELL_VIOLATIONS)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    open_page(page, little, "/models?model=sums&tab=lineage")
    expect(page.get_by_test_id("stGraphVizChart").locator("svg")).to_be_visible()
    page.set_viewport_size({"width": 1000, "height": 500})
    open_page(page, little, "/run?run=run-1&tab=config")
    expect(page.get_by_role("tab", name="Training")).to_be_in_viewport()
    open_page(page, little, "/models?model=sums&tab=card")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.path().read_text(encoding="utf-8").startswith("---")
    open_page(page, little, "/data?view=import")
    rows = {"name": "rows.jsonl", "mimeType": "application/jsonl", "buffer": b'{"text": "one"}\n'}
    page.locator("input[type=file]").first.set_input_files(rows)  # type: ignore[arg-type]
    expect(page.get_by_text("rows.jsonl").first).to_be_visible()
    settle(page)
    assert [text for text in messages if "VIOLATION" in text] == []


def test_one_tab_too_many_is_told_so_and_goes_on_once_there_is_room(tmp_path: Path, browser: Browser) -> None:
    with still_engine(seed_rounds(tmp_path)) as engine, screens_of(engine.home, descriptors=264):
        context = browser.new_context()
        tabs = [context.new_page() for _ in range(3)]
        for tab in tabs[:2]:
            open_page(tab, engine.home, "/rating")
        tabs[2].goto(find_screens_address(engine.home, "/rating"))
        expect(tabs[2].get_by_text("2 tabs of Tunebench are open, which is the maximum")).to_be_visible()
        tabs[1].reload()  # who had a place has it again
        settle(tabs[1])
        tabs[0].close()
        expect(tabs[2].get_by_role("heading", level=1)).to_be_visible(timeout=60_000)
        expect(tabs[2].get_by_text("which is the maximum")).to_be_hidden()
        context.close()
