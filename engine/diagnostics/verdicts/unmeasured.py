"""What a verdict could not rest on: that a run does not overfit says nothing of what it forgot or learned by
heart, and a reader must not take it so where neither was measured.

Pure: a verdict in, with all that was measured; a verdict out.
"""

from __future__ import annotations

from store.documents.verdicts.verdict import Verdict


def add_unmeasured(verdict: Verdict, *, probes: bool) -> Verdict:
    """The verdict with a sentence on what was not measured, behind that on overfitting. probes: whether they
    were on."""
    missing = [] if verdict.get("forgetting") else ["what it forgot"]
    if not verdict.get("membership") and not verdict.get("extraction"):
        missing.append("what it learned by heart")
    if not missing:
        return verdict
    sentence = f"Not measured: {' and '.join(missing)}{'' if probes else ', as probes were off'}."
    sentences, shape = list(verdict["sentences"]), verdict["overfitting"]
    of_course = shape["sentence"] if shape else ""
    place = sentences.index(of_course) + 1 if of_course in sentences else len(sentences)
    return {**verdict, "sentences": [*sentences[:place], sentence, *sentences[place:]]}
