"""Endpoints of the engine: what subjects become, keys and rights, gateways that are kept running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.serving.endpoint_folders import EndpointFolder, build_gateway_config
from engine.serving.supervisor import Supervisor
from store.core.documents import as_json
from store.core.errors import ConfigError, ForbiddenError, NotFoundError, StateError
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.model_schemas import VersionSource
from store.core.schemas import Person
from store.db.records import to_json
from store.jobs import job_queue
from store.serving import endpoints
from store.serving.schemas import ServedAdapter
from store.serving.text import build_examples
from tests.unit.desk import Desk
from tests.unit.on_record import on_record
from tests.unit.store_samples import row_of

ADA = Person(person_id="p-ada", name="Ada", role="member")
BOB: Person = Person(person_id="p-bob", name="Bob", role="member")
GATEWAY = (sys.executable, "-m", "tests.unit.serving.stubbed_gateway")
FIGURES = '{"words": ["ok"]}'  # the stub's own way: its model's name is what it does


def adapter(folder: Path, base: str = "tiny", **note: Any) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": base})
    write_json(
        folder / "tunebench.json",
        {"base_model": base, "method": "lora", "adapter": True, "held": "", "merges": True, **note},
    )
    return folder


def register(desk: Desk, version: int, alias: str = "", model: str = "m1") -> Path:
    folder = adapter(desk.home.path / "registered" / f"{model}-{version}")
    at = job_queue.to_utc(desk.now)
    with desk.database.transaction() as tx:
        if version == 1:
            tx.execute("INSERT INTO registered_model VALUES (?, 'support', '', 'a', 'a', ?, 0)", [model, at])
        tx.execute(
            "INSERT INTO model_version VALUES (?, ?, ?, NULL, 'tiny', true, ?, 'f', '[]', '', 'a', 'a', ?)",
            [model, version, to_json(row_of(VersionSource)), str(folder.relative_to(desk.home.path)), at],
        )
        if alias:
            tx.execute("DELETE FROM model_alias WHERE alias = ?", [alias])
            tx.execute("INSERT INTO model_alias VALUES (?, ?, ?, ?)", [model, alias, version, at])
    return folder


def served(*routes: dict[str, Any], name: str = "support", **more: Any) -> dict[str, Any]:
    return {"name": "e", "models": [{"name": name, "routes": list(routes)}], **more}


def config_of(desk: Desk, name: str = "e") -> Any:
    return build_gateway_config(desk.database, desk.home, endpoints.get(desk.database, name))


def test_adapters_of_one_base_share_a_backend_and_an_alias_is_followed(desk: Desk) -> None:
    register(desk, 1, "production")
    second = register(desk, 2)
    desk(
        "make_endpoint",
        **served(
            {"subject": "support@production"}, {"subject": "support@2", "role": "candidate", "share": 0.1}
        ),
    )
    config = config_of(desk)
    (backend,) = config.backends
    assert (backend.model, [adapter.name for adapter in backend.adapters]) == (
        "tiny",
        ["support@1", "support@2"],
    )
    assert [route.asked_as for route in config.models[0].routes] == ["support@1", "support@2"]
    register_alias = "UPDATE model_alias SET version = 2 WHERE alias = 'production'"
    with desk.database.transaction() as tx:
        tx.execute(register_alias)
    (moved,) = config_of(desk).backends
    assert moved.adapters == [ServedAdapter(name="support@2", folder=str(second))]
    assert moved.backend_id != backend.backend_id


def test_what_a_subject_may_be(desk: Desk, tmp_path: Path) -> None:
    (desk.home.models / "tiny").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    other = adapter(tmp_path / "other", method="prefix")
    remote = {"model": "big", "key_env": "KEY", "fields": ["stream"]}
    subjects = [
        {"subject": "tiny"}, {"subject": str(tmp_path / "m.gguf"), "role": "fallback"},
        {"subject": str(other), "role": "candidate", "share": 0.5},
        {"subject": "https://host.example/v1", "role": "shadow", "remote": remote},
    ]  # fmt: skip
    desk("make_endpoint", **served(*subjects))
    backends = config_of(desk).backends
    assert [entry.engine for entry in backends] == ["worker", "llama.cpp", "worker", "remote"]
    assert [bool(entry.labels) for entry in backends] == [True, False, True, False]
    assert backends[0].names == ["tiny"]
    assert backends[2].adapters[0].folder == str(other)  # its kind shares no base
    assert (backends[3].url, backends[3].key_env) == ("https://host.example/v1", "KEY")


def test_a_gguf_file_in_a_folder_of_the_home_folder_is_served_by_its_name(desk: Desk) -> None:
    (desk.home.models / "packed").mkdir()
    file = desk.home.models / "packed" / "m.gguf"
    file.write_bytes(b"GGUF")
    body = served({"subject": "packed"})
    desk("make_endpoint", by=ADA, **body)
    (backend,) = config_of(desk).backends
    assert (backend.engine, backend.model, backend.names) == ("llama.cpp", str(file), ["packed"])


def test_the_base_of_a_registered_adapter_lies_in_its_folder(desk: Desk) -> None:
    folder = register(desk, 1)
    note = json.loads((folder / "tunebench.json").read_text())
    write_json(folder / "tunebench.json", note | {"own_base": True})
    desk("make_endpoint", **served({"subject": "support@1"}))
    assert config_of(desk).backends[0].model == str(folder.parent / "base")  # as a run has it
    (folder / "base").mkdir()
    assert config_of(desk).backends[0].model == str(folder / "base")


def test_which_variable_goes_where_is_for_admins(desk: Desk) -> None:
    (desk.home.models / "tiny").mkdir()

    def settings(address: str, variable: str) -> Any:
        remote = {"model": "big", "key_env": variable}
        body = served({"subject": "tiny"}, {"subject": address, "role": "fallback", "remote": remote})
        return {name: value for name, value in body.items() if name != "name"}

    own, other = settings("https://own.example/v1", "KEY"), settings("https://other.example/v1", "KEY")
    with pytest.raises(ForbiddenError, match="key_env sends a variable of this machine to another"):
        desk("make_endpoint", by=ADA, name="e", **own)
    desk("make_endpoint", name="e", **own)
    desk("change_endpoint", by=ADA, endpoint="e", settings=own | {"max_streams": 2})
    for changed in (other, settings("https://own.example/v1", "OTHER")):
        with pytest.raises(ForbiddenError, match="Ask an admin"):
            desk("change_endpoint", by=ADA, endpoint="e", settings=changed)
    desk("change_endpoint", endpoint="e", settings=other | {"limits": {"max_tokens": 99}})
    assert {entry.most_answer for entry in config_of(desk).backends} == {99}


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (served({"subject": "nothing"}), NotFoundError, "no run, model, registered version"),
        (served({"subject": "support@9"}), NotFoundError, "support@9"),
        (served({"subject": "a", "role": "fallback"}), ConfigError, "one live route"),
        (served({"subject": "a"}, {"subject": "b"}), ConfigError, "one live route"),
        (served({"subject": "http://host.example/v1", "remote": {"model": "m"}}), ConfigError, "https"),
        (served({"subject": "https://host.example/v1"}), ConfigError, "remote"),
        (served({"subject": "a", "share": 0.5}), ConfigError, "share"),
    ],
)
def test_what_can_t_be_served_is_refused(desk: Desk, body: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        desk("make_endpoint", **body)
    assert endpoints.listed(desk.database) == []


def test_a_run_that_is_served_is_not_deleted(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D", name="Tuned")["run_id"]
    adapter(desk.home.jobs / run_id / "model")
    desk.end(run_id, "finished")
    desk("make_endpoint", **served({"subject": "Tuned"}))
    step_of(desk)  # its gateway is told
    with pytest.raises(StateError, match="endpoint e serves Tuned"):
        desk("delete", job=run_id)
    desk("stop_endpoint", endpoint="e")
    desk("delete", job=run_id)
    with pytest.raises(NotFoundError, match="Tuned"):
        desk("start_endpoint", endpoint="e")


def test_commands_that_are_shown_hold_names_with_spaces(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D", name="Tuned")["run_id"]
    adapter(desk.home.jobs / run_id / "model")
    desk.end(run_id, "finished")
    desk("make_endpoint", **served({"subject": "Tuned"}) | {"name": "My bank"})
    step_of(desk)
    with pytest.raises(StateError) as used:
        desk("delete", job=run_id)
    with pytest.raises(StateError) as running:
        desk("delete_endpoint", endpoint="My bank")
    for error in (used.value, running.value):
        assert str(error.fix).endswith("tunebench endpoint stop 'My bank'")


def step_of(desk: Desk) -> Supervisor:
    """A step of a supervisor whose gateways end at once."""
    supervisor = Supervisor(desk.database, desk.home, (sys.executable, "-c", "import sys; sys.exit('no')"))
    supervisor.step()
    return supervisor


def test_keys_are_shown_once_and_revoked_by_their_owner_or_an_admin(desk: Desk) -> None:
    (desk.home.models / "tiny").mkdir()
    made = desk("make_endpoint", by=ADA, **served({"subject": "tiny"}, with_key="first"))
    assert made["key"].startswith("tbe_")
    supervisor = step_of(desk)
    folder = EndpointFolder(desk.home, made["endpoint_id"])
    keys = json.loads((folder.path / "keys.json").read_text())["keys"]
    assert made["key"] not in json.dumps([keys, supervisor.list_status()], default=as_json)
    assert (folder.path / "keys.json").stat().st_mode & 0o077 == 0
    with on_record(folder.path / "gateway.json"):  # it runs
        _others_keys(desk, supervisor, folder, [key["key_id"] for key in keys])


def _others_keys(desk: Desk, supervisor: Supervisor, folder: EndpointFolder, first: list[str]) -> None:
    second = desk("make_key", by=BOB, endpoint="e", name="second", tokens_per_day=100)
    now = json.loads((folder.path / "keys.json").read_text())["keys"]  # before any step
    assert [key["key_id"] for key in now] == sorted([*first, second["key_id"]])
    with pytest.raises(ForbiddenError, match="Bob's"):
        desk("revoke_key", by=ADA, key=second["key_id"])
    desk("revoke_key", by=BOB, key=second["key_id"])
    desk("revoke_key", key=first[0])  # an admin
    assert json.loads((folder.path / "keys.json").read_text())["keys"] == []
    supervisor.step()
    assert [key.revoked_at is None for key in supervisor.list_status()[0].keys] == [False, False]


def test_a_copied_home_folder_leaves_the_originals_gateway_alone(desk: Desk, tmp_path: Path) -> None:
    (desk.home.models / "tiny").mkdir()
    made = desk("make_endpoint", **served({"subject": "tiny"}))
    gateway = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    folder = EndpointFolder(desk.home, made["endpoint_id"])
    folder.create()
    try:
        with on_record(folder.path / "gateway.json", pid=gateway.pid):
            copy = Home(shutil.copytree(desk.home.path, tmp_path / "copy"))
            desk("stop_endpoint", endpoint="e")
            Supervisor(desk.database, copy).step()
            assert not Supervisor(desk.database, copy).list_status()[0].alive
            assert gateway.poll() is None
            Supervisor(desk.database, desk.home).step()
            assert gateway.wait(20) == -signal.SIGTERM
    finally:
        gateway.kill()


def test_why_a_gateway_does_not_run_is_said_and_it_is_tried_again(desk: Desk) -> None:
    (desk.home.models / "tiny").mkdir()
    desk("make_endpoint", **served({"subject": "tiny"}))
    supervisor = step_of(desk)
    wait_for(lambda: (supervisor.step() or True) and supervisor.list_status()[0].problem is not None)
    (seen,) = supervisor.list_status()
    assert seen.problem
    assert "ended with code 1" in seen.problem["message"]
    assert not seen.alive


def test_a_gateway_outlives_the_engine_and_is_started_again_when_it_dies(desk: Desk) -> None:
    (desk.home.models / FIGURES).mkdir()
    made = desk("make_endpoint", **served({"subject": FIGURES}), with_key="k")
    supervisor = Supervisor(desk.database, desk.home, GATEWAY)
    folder = EndpointFolder(desk.home, made["endpoint_id"])

    def answers() -> bool:
        supervisor.step()
        process = folder.get_process()
        headers = {"Authorization": f"Bearer {made['key']}"}
        body = {"model": "support", "messages": []}
        if process is None:
            return False
        try:
            url = f"{process.address}/v1/chat/completions"
            return httpx.post(url, json=body, headers=headers).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(answers)
        first = folder.get_process()
        assert first
        assert first.address.endswith(f":{made_port(desk)}")
        supervisor = Supervisor(desk.database, desk.home, GATEWAY)  # of the next engine
        supervisor.step()
        assert folder.get_process() == first
        os.kill(first.pid, signal.SIGKILL)
        wait_for(answers)
        assert folder.get_process() != first
        assert supervisor.list_last_requests("e")[0]["status"] == 200
        with pytest.raises(StateError, match="still runs"):
            desk("delete_endpoint", endpoint="e")
    finally:
        desk("stop_endpoint", endpoint="e")
        wait_for(lambda: (supervisor.step() or True) and folder.get_process() is None)
    desk("delete_endpoint", endpoint="e")
    assert not folder.path.exists()


def made_port(desk: Desk) -> Any:
    return endpoints.get(desk.database, "e").settings["port"]


def wait_for(ready: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("kinds", "path", "call"),
    [
        ([], "/v1/chat/completions", "client.chat.completions.create"),
        (["completion"], "/v1/completions", "client.completions.create"),
        (["labels"], "/v1/chat/completions", "client.chat.completions.create"),
        (["embedding"], "/v1/embeddings", "client.embeddings.create"),
    ],
)
def test_the_example_asks_what_the_model_answers(kinds: list[str], path: str, call: str) -> None:
    curl, python = build_examples("http://127.0.0.1:8600", "m", kinds)
    body = curl.split("-d ")[1].strip("'")
    assert json.loads(body)["model"] == "m"
    assert path in curl
    assert call in python
    compile(python, "example", "exec")
