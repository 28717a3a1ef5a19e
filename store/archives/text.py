"""What is said of an opened bundle: its fingerprint, and whether it is the run that it says it is of."""

from __future__ import annotations

from store.archives.schemas import OpenedBundle

SAME = {True: "same", False: "differs", None: "can't be told"}


def format_fingerprint(opened: OpenedBundle) -> str:
    """What people can compare by voice or mail; empty of one that was opened before there was any."""
    if not (seal := opened.seal):
        return ""
    return (
        f"Fingerprint of the bundle: {seal}. Compare it with whoever wrote the bundle: checksums find a"
        " change, but not a bundle whose checksums were all made anew."
    )


def describe_origin(opened: OpenedBundle) -> str:
    """Beside the run of that id, where it is in this home; empty of one that was opened before it was
    compared."""
    original = opened.original
    if original is None:
        if not opened.seal:
            return ""
        return f"The run {opened.run.name} is not in this home, so that the bundle can't be held against it."
    if count := len(original.differences) + original.more:
        noun = "field differs" if count == 1 else "fields differ"
        return (
            f"This is not the run {original.name} of this home, though it has its id: {count:,} {noun}."
            " The bundle was changed, and its checksums made anew, or the run's files were."
        )
    if original.written_here:
        return f"This home wrote it, of its run {original.name}, and nothing was changed since."
    return f"In every field it is the run {original.name} of this home."
