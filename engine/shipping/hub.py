"""A finished export pushed to a repository of the Hugging Face hub.

The token is the one that the environment (HF_TOKEN) or `hf auth login` has; it is never asked for, stored or
written anywhere by this project. All files become one commit: until it is made, the repository shows none.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from store.contract.errors import StateError

AGAIN = "The export stays in the home folder: push it with `hf upload {repository} FOLDER .`"
REFUSED: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "it doesn't know the token, or the token has expired",
    HTTPStatus.FORBIDDEN: "the token has no right to write there",
    HTTPStatus.TOO_MANY_REQUESTS: "it has had too many requests of this account",
}


def check(repository: str, *, private: bool) -> None:
    """Before anything is made: raise StateError (hub) where nobody is signed in, the hub can't be reached, or
    what is to be private would become public."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if get_token() is None:
        raise StateError(
            f"Nobody is signed in to the hub, so nothing can be pushed to {repository}.",
            fix="Run `hf auth login`, or start the engine with HF_TOKEN set.",
            field="hub",
        )
    api = HfApi()
    try:
        api.whoami()
        there = api.repo_info(repository)
    except RepositoryNotFoundError:
        return  # it is made by the push
    except Exception as error:
        raise _refused(
            repository, error, "Nothing was made. Check the network, the token and the name."
        ) from error
    _check_private(repository, private, there)


def _check_private(repository: str, private: bool, there: Any) -> None:
    if private and not there.private:
        raise StateError(
            f"{repository} is there already and everybody can read it; the export is to be private.",
            fix="Take another name, or say that it may be public.",
            field="hub",
        )


def push(folder: Path, repository: str, *, private: bool) -> str:
    """The address of the repository, with all files of the folder. Raises StateError with the reason, and
    what of it is there."""
    from huggingface_hub import HfApi

    api, made = HfApi(), False
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        made = True
        _check_private(repository, private, api.repo_info(repository))  # it may have been opened since
        api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Model exported by Tunebench"
        )
    except StateError:
        raise
    except Exception as error:
        state = "The repository is there, without these files. " if made else ""
        raise _refused(repository, error, state + AGAIN.format(repository=repository)) from error
    return str(address)


def _refused(repository: str, error: Exception, fix: str) -> StateError:
    """By its status where the hub answered; else by what the client says."""
    response: Any = getattr(error, "response", None)
    why = REFUSED.get(getattr(response, "status_code", 0), "")
    return StateError(
        f"The hub did not take {repository}: {why or _without_token(str(error)) or type(error).__name__}.",
        fix=fix,
        field="hub",
    )


def _without_token(text: str) -> str:
    from huggingface_hub import get_token

    plain = " ".join(text.split())
    token = get_token()
    return (plain.replace(token, "…") if token else plain)[:300].rstrip(".")
