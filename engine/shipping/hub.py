"""A finished export pushed to a repository of the Hugging Face hub.

The token is the one that the environment (HF_TOKEN) or `hf auth login` has; it is never asked for, stored or
written anywhere by this project.
"""

from __future__ import annotations

from pathlib import Path

from store.contract.errors import StateError


def check(repository: str) -> None:
    """Raise StateError where nobody is signed in, or the hub can't be reached: before anything is made."""
    from huggingface_hub import get_token, whoami

    if get_token() is None:
        raise StateError(
            f"Nobody is signed in to the hub, so nothing can be pushed to {repository}.",
            fix="Run `hf auth login`, or start the engine with HF_TOKEN set.",
            field="hub",
        )
    try:
        whoami()
    except Exception as error:
        raise _unreachable(repository, error) from error


def push(folder: Path, repository: str, *, private: bool) -> str:
    """The address of the repository, with all files of the folder. Raises StateError with the reason."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Model exported by Tunebench"
        )
    except Exception as error:
        raise _unreachable(repository, error) from error
    return str(made)


def _unreachable(repository: str, error: Exception) -> StateError:
    why = " ".join(str(error).split())[:300] or type(error).__name__
    return StateError(
        f"The hub did not take {repository}: {why}",
        fix="Check the network, the token's rights and the name. Nothing is lost: export again without hub.",
        field="hub",
    )
