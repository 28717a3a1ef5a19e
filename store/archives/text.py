"""Texts about an opened bundle: its fingerprint, whether it matches the run it claims to be of, and titles of
its figures.
"""

from __future__ import annotations

from store.archives.schemas import OpenedBundle, ReproducedFigure

SAME = {True: "same", False: "differs", None: "inconclusive"}


def format_figure_title(figure: ReproducedFigure) -> str:
    """Format as "Loss of the tuned model, nats a token"."""
    return f"{figure.title[:1].upper()}{figure.title[1:]}, {figure.unit}"


def format_fingerprint(opened: OpenedBundle) -> str:
    """Format the fingerprint for a comparison by phone or mail; empty for older bundles without one."""
    if not (seal := opened.seal):
        return ""
    return (
        f"Bundle fingerprint: {seal}. Confirm it with the author of the bundle: checksums detect changes,"
        " but not a bundle whose checksums were all recomputed."
    )


def describe_origin(opened: OpenedBundle) -> str:
    """Compare the bundle with the run with that id, if it is in this home.

    Empty for bundles that were opened before this comparison existed.
    """
    original = opened.original
    if original is None:
        if not opened.seal:
            return ""
        return f"Not verified against the original: the run {opened.run.name} is not in this home folder."
    if count := len(original.differences) + original.more:
        noun = "field differs" if count == 1 else "fields differ"
        return (
            f"This bundle does not match the run {original.name} of this home folder with the same id:"
            f" {count:,} {noun}. Either the bundle was changed and its checksums recomputed, or the run's"
            " files were changed."
        )
    if original.written_here:
        return f"Created in this home folder from the run {original.name}, and unchanged since."
    return f"All fields match the run {original.name} of this home folder."
