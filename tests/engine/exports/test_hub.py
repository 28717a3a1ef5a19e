"""What the real client of the hub sends for a push, to a hub of our own: and what is said when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.export import publication
from store.core.errors import StateError
from tests.engine.exports.hub_stub import TOKEN, HubStub, running

NAME = "ada/support"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStub]:
    """A hub with nothing in it, whose token the environment has."""
    from huggingface_hub import constants

    with running() as stub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
        monkeypatch.setattr(constants, "ENDPOINT", stub.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield stub


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# support\n")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 200)
    return folder


def test_all_files_are_one_commit_in_a_private_repository(there: HubStub, export: Path) -> None:
    publication.check_repository(NAME, private=True)
    assert not there.repositories, "looking makes nothing"
    assert publication.push_to_hub(export, NAME, private=True) == f"{there.address}/{NAME}"
    assert there.repositories == {NAME: True}
    assert there.files == {path.name: path.read_bytes() for path in export.iterdir()}
    assert len(there.stored) == 1, "weights go by LFS"
    assert sum("/commit/" in path for _, path in there.requests) == 1


def test_a_second_push_goes_to_the_repository_that_is_there(there: HubStub, export: Path) -> None:
    there.repositories[NAME] = True
    publication.check_repository(NAME, private=True)
    publication.push_to_hub(export, NAME, private=True)
    assert there.repositories == {NAME: True}
    assert "config.json" in there.files


def test_what_is_to_be_private_goes_to_no_public_repository(there: HubStub) -> None:
    there.repositories[NAME] = False
    with pytest.raises(StateError, match="already exists and is public") as error:
        publication.check_repository(NAME, private=True)
    assert error.value.field == "hub"
    publication.check_repository(NAME, private=False)


def test_a_repository_that_was_opened_meanwhile_gets_nothing(there: HubStub, export: Path) -> None:
    publication.check_repository(NAME, private=True)
    there.repositories[NAME] = False
    with pytest.raises(StateError, match="already exists and is public"):
        publication.push_to_hub(export, NAME, private=True)
    assert not there.files


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/api/whoami-v2", 401, "the token is invalid or has expired"),
        ("/api/models/", 403, "no write access"),
        ("/api/whoami-v2", 429, "too many requests"),
    ],
)
def test_a_token_that_is_refused_is_said_before_anything_is_made(
    there: HubStub, path: str, status: int, why: str
) -> None:
    there.fail[path] = status
    with pytest.raises(StateError, match=why) as error:
        publication.check_repository(NAME, private=True)
    assert TOKEN not in str(error.value.to_dict())
    assert not there.repositories


def test_a_connection_that_dies_leaves_no_commit_and_says_so(there: HubStub, export: Path) -> None:
    there.fail["/store/"] = 0
    with pytest.raises(StateError, match=f"Could not push to {NAME}") as error:
        publication.push_to_hub(export, NAME, private=True)
    assert "without these files" in error.value.fix
    assert not there.files
    assert TOKEN not in str(error.value.to_dict())


def test_a_name_of_somebody_else_is_refused(there: HubStub, export: Path) -> None:
    there.fail["/api/repos/create"] = 403
    with pytest.raises(StateError, match="no write access") as error:
        publication.push_to_hub(export, "bob/support", private=True)
    assert "The repository exists" not in error.value.fix
    assert not there.files


def test_a_token_in_an_error_is_not_shown(there: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise ValueError(f"header Authorization: Bearer {TOKEN} is bad")

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", fails)
    with pytest.raises(StateError) as error:
        publication.check_repository(NAME, private=True)
    assert "Bearer … is bad" in error.value.message
