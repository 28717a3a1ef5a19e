"""A run on its way out and back, for the pictures: registered, exported, served, asked, watched, improved.

Everything is done by commands and answered by the real gateway. Those who ask send texts about the same
subjects out of other modules, and say later what would have been right; one of them forgets the instruction.
"""

from __future__ import annotations

import random
from typing import Any

import httpx

from docs.photographed.camera import LONG, SHORT, Camera, charts, missing, say
from docs.photographed.topics import INSTRUCTION, documentation
from docs.photographed.work import CLEANED, GENTLE, STRONG, Work
from store.core.config import to_yaml
from store.core.errors import NotFoundError
from store.export import exports
from store.monitoring import monitor_alerts
from store.registry import model_versions
from store.retraining import improvements
from store.serving.endpoint_status import list_endpoints
from store.serving.schemas import EndpointStatus
from tests.e2e.started_app import App, wait_until

MODEL = "topics"
FORMS = ("gguf-q8_0", "gguf-q4_k_m")
PARITY_ROWS = 60
GATE = [
    {"check": "not_worse_than", "dataset": CLEANED, "part": "test", "metric": "accuracy", "max_rows": 100},
    {"check": "better_on_task"},
    {"check": "forgetting_under", "nats": 0.6, "share": 0.2},  # a model that does nothing but name topics
    {"check": "parity_passed", "form": "gguf-q8_0", "warned": True},  # of so few rows hardly more is sure
]
WATCHED = {"reference": "dataset", "dataset": CLEANED, "reference_rows": 200}
LATER = {  # modules that are in no row of the data
    "dates": ("zoneinfo", "sched"),
    "files": ("zipfile", "tarfile", "posixpath", "stat", "fileinput", "fnmatch"),
    "mail": ("poplib", "mimetypes", "mailcap"),
    "numbers": ("random", "cmath", "numbers"),
    "xml": ("xmlrpc", "pyexpat", "plistlib"),
}
CALLERS = {"Support desk": 60, "Docs search": 40, "Phone app": 40}  # a key each, and how often it asks
REASON = "It names topics that the base model does not, and its GGUF file answers alike."
FORGETFUL = "Phone app"  # which sends bare texts
PEOPLE = 50  # who ask through a key


class Shipping:
    """The way of one model; what there is of it already is left as it is."""

    def __init__(self, app: App, work: Work, camera: Camera) -> None:
        self._app = app
        self._work = work
        self._camera = camera

    def model_id(self) -> str:
        """Of the registered model; empty where there is none yet."""
        try:
            return model_versions.get_model(self._app.client, MODEL).model_id
        except NotFoundError:
            return ""

    def registered(self) -> None:
        """Two runs as versions, the better one first."""
        there = model_versions.list_versions(self._app.client, self.model_id())[0] if self.model_id() else 0
        for run in (STRONG, GENTLE)[there:]:
            say(f"Registering {run}")
            self._app.cli("model", "register", run, "--name", MODEL, "--no-wait", "--json")
            self._work.finished(SHORT, "a registered version")

    def exported(self) -> None:
        """The first version in two forms, each read back and held against the model."""
        made = {row.form for row in exports.of_version(self._app.client, self.model_id(), 1)}
        rows = ("--max-rows", str(PARITY_ROWS), "--no-wait", "--json")
        for form in FORMS:
            if form not in made:
                say(f"Exporting {form}")
                self._app.cli("model", "export", f"{MODEL}@1", "--form", form, *rows)
                self._work.finished(LONG, f"an export as {form}")

    def promoted(self) -> None:
        """The first version through the gate of production; then the second one is held against it."""
        client = self._app.client
        if model_versions.alias_standing(client, self.model_id(), "production") is None:
            say("Through the gate")
            file = self._app.home / "gate.yaml"
            file.write_text(to_yaml({"checks": GATE}))
            self._app.cli("model", "set-gate", MODEL, "production", str(file), "--json")
            client.command("promote", {"version": f"{MODEL}@1", "alias": "production",
                                       "reason": REASON})  # fmt: skip
            client.command("gather_gate_evidence", {"version": f"{MODEL}@2", "alias": "production"})
            self._work.finished(LONG, "what the gate needs")

    def endpoint(self) -> EndpointStatus:
        """That of the model."""
        seen = [seen for seen in list_endpoints(self._app.client) if seen.name == MODEL]
        return seen[0] if seen else missing(MODEL)

    def served(self) -> None:
        """Whatever is production, at an address."""
        say("Serving")
        key_file = ("--key-file", str(self._app.home / "first.key"))
        self._app.cli("serve", f"{MODEL}@production", "--name", MODEL, "--detach", *key_file)

    def asked(self) -> None:
        """Questions by three keys and many people; of most somebody says later what is right."""
        endpoint = self.endpoint()
        state = endpoint.state or missing(MODEL)
        done = {key.name for key in endpoint.keys if key.used_at}
        if not done & {*CALLERS}:
            self._watched()
        texts = documentation(LATER)
        random.Random(0).shuffle(texts)
        for name, count in CALLERS.items():
            asked, texts = texts[:count], texts[count:]
            if name in done:
                continue
            say(f"{name} asks {count} times")
            body = {"endpoint": endpoint.endpoint_id, "name": name}
            key = self._app.client.command("make_key", body)["key"]
            with httpx.Client(
                base_url=state.address,
                headers={"Authorization": f"Bearer {key}"},
                timeout=SHORT,
                trust_env=False,
            ) as caller:
                wait_until(lambda: caller.get("/v1/models").is_success, SHORT, "a key that is obeyed")
                for place, (text, topic) in enumerate(asked):
                    self._ask(caller, name, place, text, topic)

    def _watched(self) -> None:
        settings = self._app.home / "monitor.yaml"
        settings.write_text(to_yaml(WATCHED))
        self._app.cli("monitor", MODEL, "--settings", str(settings), "--json")

    def stopped(self) -> None:
        """An endpoint outlives its app; it is started again with the next pictures."""
        self._app.cli("endpoint", "stop", MODEL)

    def _ask(self, caller: httpx.Client, name: str, place: int, text: str, topic: str) -> None:
        forgets = name == FORGETFUL
        body: dict[str, Any] = {
            **{"model": MODEL, "max_tokens": 8, "temperature": 0, "user": f"{name} {place % PEOPLE}"},
            "messages": [{"role": "user", "content": text if forgets else f"{INSTRUCTION}\n\n{text}"}],
        }
        answer = caller.post("/v1/chat/completions", json=body).raise_for_status().json()
        right = answer["choices"][0]["message"]["content"].strip() == topic
        says = {"thumb": "up" if right else "down"} if forgets or place % 4 == 0 else {"label": topic}
        feedback = {"request_id": answer["id"], **says}
        caller.post("/v1/feedback", json=feedback).raise_for_status()

    def warned(self) -> None:
        """Until the monitor has looked at all requests and says that something has changed."""
        own = self.endpoint().endpoint_id
        wait_until(lambda: monitor_alerts.open_alerts(self._app.client, own), SHORT, "an alert")
        self._work.finished(SHORT, "what the monitor measures")

    def improved(self) -> None:
        """What people said becomes the next version, up to the question to a person."""
        if not improvements.of_model(self._app.client, self.model_id()):
            say("Improving")
            self._app.cli("improve", MODEL, "--feedback", MODEL, "--margin", "0.05", "--no-wait", "--json")
        wait_until(lambda: self._improvement_state() in ("deciding", "failed"), LONG, "an improvement")
        if self._improvement_state() == "failed":
            missing("version that was trained on what came back")

    def _improvement_state(self) -> str:
        return improvements.of_model(self._app.client, self.model_id())[0].state


def photograph_shipping(camera: Camera, run_id: str) -> None:
    """The pictures of it."""
    camera.go(f"/models?model={MODEL}&version=2&tab=gate")
    camera.take("gate", camera.text("Forgetting under a limit"))
    camera.go(f"/models?model={MODEL}&version=1&tab=exports")
    camera.take("exports", camera.text("identical rendering and"))
    camera.go(f"/endpoints?endpoint={MODEL}")
    camera.take("endpoint", camera.text("Traffic by version"))
    camera.go(f"/monitor?endpoint={MODEL}")
    camera.take("monitor", charts(camera.page))
    camera.go(f"/models?model={MODEL}&tab=improve")
    chain = camera.page.locator(".st-key-improvement")
    camera.take("improve", camera.text("The gate of "), top=chain)
    camera.go(f"/run?run={run_id}&tab=bias")
    camera.take("bias", charts(camera.page), top=camera.page.get_by_role("tablist"))
