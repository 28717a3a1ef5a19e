"""What the app does for the pictures: data imported, cleaned and split, models trained and evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docs.photographed.camera import LONG, SHORT, Camera, charts, missing, say
from docs.photographed.topics import INSTRUCTION
from store.core.config import to_yaml
from store.core.job_kinds import ALIVE, RESUMABLE
from store.data import datasets
from store.jobs import job_queue
from store.runs import run_outcomes, runs
from store.training.train_config import SAMPLE_DATASET
from tests.e2e.started_app import App, wait_until

FILE, DATA, CLEANED = "python-topics.csv", "python topics", "python topics v2"
TASK = {"dataset": CLEANED, "task": "sft", "evaluations": 6, "max_new_tokens": 8}
SOME = {**TASK, "max_train_rows": 240, "num_train_epochs": 2}
NEVER_STOPPED = {"evaluations": 10, "early_stopping": False, "load_best_model_at_end": False}
TEN_EPOCHS = {"method": "full", "learning_rate": 1e-4, "num_train_epochs": 10, **NEVER_STOPPED}
STRONG, GENTLE = "LoRA at 1e-3", "LoRA at 2e-4"
FULL, OVERFITTED = "Full on 48 rows, 10 epochs", "Full on 32 rows, 10 epochs"
RUNS: dict[str, dict[str, Any]] = {
    STRONG: {**SOME, "method": "lora", "learning_rate": 1e-3},
    GENTLE: {**SOME, "method": "lora", "learning_rate": 2e-4},
    FULL: {**TASK, **TEN_EPOCHS, "max_train_rows": 48},
    OVERFITTED: {**TEN_EPOCHS, "dataset": SAMPLE_DATASET, "max_train_rows": 32, "max_eval_rows": 100}
    | {"gradient_accumulation_steps": 1, "sample_prompts": 5, "max_new_tokens": 32},
}
BASE_EVALUATION, TUNED_EVALUATION = "Base model on test rows", "LoRA at 1e-3 on the same rows"


class Work:
    """What the pictures show, made by the app; what there is of it already is left as it is."""

    def __init__(self, app: App, camera: Camera, file: Path) -> None:
        self._app = app
        self._camera = camera
        self._file = file

    def dataset(self, name: str) -> str | None:
        """The id of a data set, None where there is none of that name."""
        imported = datasets.list_datasets(self._app.client)
        return next((row.dataset_id for row in imported if row.name == name), None)

    def runs(self) -> dict[str, str]:
        """name -> id of the runs."""
        rows = self._app.client.people.query("SELECT name, run_id FROM run_overview").to_pylist()
        return {row["name"]: row["run_id"] for row in rows}

    def evaluations(self) -> dict[str, str]:
        """name -> id of the evaluations that were made."""
        rows = self._app.client.people.query("SELECT name, evaluation_id FROM evaluation").to_pylist()
        return {row["name"]: row["evaluation_id"] for row in rows}

    def finished(self, seconds: float, what: str) -> None:
        """Wait until no job is left, and none failed. No page is open meanwhile: it would take a core."""
        self._camera.page.goto("about:blank")
        wait_until(lambda: not job_queue.with_status(self._app.client, ALIVE), seconds, what)
        if failed := job_queue.with_status(self._app.client, ("failed", "lost")):
            raise SystemExit(f"{failed[0].title}: {failed[0].error}")

    def resumed(self) -> None:
        """Runs that an earlier start of this script left, from their last checkpoint."""
        for job in job_queue.with_status(self._app.client, RESUMABLE):
            say(f"Resuming {job.title}")
            self._app.client.command("resume", {"job": job.job_id})

    def imported(self) -> str:
        """The file, through the form."""
        camera = self._camera
        page = camera.go("/data?view=import")
        page.locator("input[type=file]").set_input_files(self._file)
        box = page.locator('input[aria-label="Instruction before each text"]')
        box.fill(INSTRUCTION, timeout=SHORT * 1000)
        box.press("Enter")
        name = page.locator('input[aria-label="Name"]')
        name.fill(DATA)
        name.press("Enter")
        detected = camera.text("Detected ")
        camera.take("import", page.get_by_text(INSTRUCTION), top=detected)
        if self.dataset(DATA) is None:
            say("Importing the file")
            camera.button("Import").last.click()
            camera.button("Explore the data set").wait_for(timeout=SHORT * 1000)
            self.finished(SHORT, "what an import measures")
        return self.dataset(DATA) or missing(DATA)

    def measured(self) -> None:
        """Labels and map too, which are measured when asked for."""
        say("Measuring labels, map and tokens")
        groups = ("labels", "map", "tokens")
        self._app.cli("data", "profile", DATA, *(part for group in groups for part in ("--group", group)))

    def cleaned(self, dataset_id: str) -> str:
        """A new version by the first fix of every finding, on the tab Clean."""
        camera = self._camera
        page = camera.go(f"/data?dataset={dataset_id}")
        camera.tab("Clean")
        cards = page.locator('[class*="st-key-finding-"]')
        cards.first.wait_for(timeout=SHORT * 1000)
        camera.still()
        for place in range(cards.count()):  # the least serious first: exact duplicates before near ones
            cards.nth(-1 - place).locator('[class*="st-key-fix-"] button').first.click()
            page.locator(f'[class*="st-key-step-{dataset_id}-{place}"]').first.wait_for()
        made = camera.button("Make version")
        camera.take("clean", made, camera.text("Recipe preview"))
        if self.dataset(CLEANED) is None:
            say("Making a cleaned version")
            made.click()
            camera.button("Open the new version").wait_for(timeout=SHORT * 1000)
            self.finished(SHORT, "what a new version measures")
        return self.dataset(CLEANED) or missing(CLEANED)

    def split(self, dataset_id: str) -> None:
        """More test rows, on the tab Split."""
        camera = self._camera
        page = camera.go(f"/data?dataset={dataset_id}")
        camera.tab("Split")
        box = page.locator('input[aria-label="Test (%)"]')
        box.fill("20", timeout=SHORT * 1000)
        box.press("Enter")
        save = camera.button("Save split")
        camera.still()
        if save.is_enabled():
            save.click()
            camera.text("Split saved").first.wait_for()
        camera.take("split", save)

    def launched(self) -> None:
        """Every run in the queue."""
        for name, fields in RUNS.items():
            if name in self.runs():
                continue
            say(f"Launching {name}")
            file = self._file.with_suffix(".yaml")
            file.write_text(to_yaml({"name": name, **fields}))
            self._app.cli("launch", str(file), "--json")

    def watched(self) -> None:
        """The first run, while it learns."""
        run_id = self.runs()[STRONG]

        def learns() -> bool:
            run = runs.get_run(self._app.client, run_id)
            return run.status not in ALIVE or (run.best_step or 0) >= 15

        wait_until(learns, LONG, "half of a training")
        if self._app.status(run_id) == "training":
            self._camera.go(f"/run?run={run_id}")
            self._camera.take("watch", charts(self._camera.page))

    def evaluated(self) -> None:
        """Base and tuned model on the same rows that neither was trained on."""
        common = ("--dataset", CLEANED, "--part", "test", "--max-rows", "100", "--json", "--no-wait")
        if BASE_EVALUATION not in self.evaluations():
            say("Evaluating the base model")
            model = ("--model", "SmolLM2-135M-Instruct")
            self._app.cli("evaluate", *model, *common, "--name", BASE_EVALUATION)
            self.finished(LONG, "the evaluation of the base model")
        if TUNED_EVALUATION not in self.evaluations():
            say("Evaluating a run")
            same = ("--rows-of", self.evaluations()[BASE_EVALUATION], "--json", "--no-wait")
            self._app.cli("evaluate", "--run", self.runs()[STRONG], *same, "--name", TUNED_EVALUATION)
            self.finished(LONG, "the evaluation of the run")

    def mixed(self) -> None:
        """Some models between a run's base and its own."""
        run_id = self.runs()[STRONG]
        if run_id not in run_outcomes.mixed_runs(self._app.client):
            say("Scoring models between base and tuned")
            self._app.cli("interpolate", run_id, "--alphas", "0.3,0.6", "--no-wait", "--json")
            self.finished(LONG, "models between base and tuned")

    def checked(self) -> None:
        """The built-in pairs, asked of base and tuned model."""
        run_id = self.runs()[STRONG]
        if not self._app.client.people.query("SELECT 1 FROM bias_check WHERE run_id = ?", [run_id]).num_rows:
            say("Checking for bias")
            self._app.cli("bias", STRONG, "--no-wait", "--json")
            self.finished(LONG, "a bias check")
