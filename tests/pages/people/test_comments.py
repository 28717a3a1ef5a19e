"""Comments on the pages of runs, rows, evaluations and comparisons."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import TextArea

from store.people import activity
from tests.pages.conftest import everything_said
from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA, BOB, VIEWER, Team

RUN = "pages/runs/run.py"
HOSTILE = "<script>alert(1)</script> **x** [a](b)\n@Bob & co"


def field(at: AppTest, kind: str, subject_id: str, count: int = 0) -> TextArea:
    return at.text_area(key=f"comment-new-{kind}-{subject_id}-{count}")


def send(at: AppTest) -> None:
    next(button for button in at.button if button.label == "Comment").click().run()
    assert not at.exception, [error.value for error in at.exception]


def drawn(at: AppTest) -> list[str]:
    """The HTML of each comment."""
    return [
        e.proto.body.partition("</style>")[2].strip() for e in at.get("html") if "tb-comment" in e.proto.body
    ]


def test_what_is_written_is_kept_and_drawn_as_text(people: Team, open_as: OpenAs) -> None:
    at = open_as(ADA, RUN, run="r000001", tab="comments")
    assert "No comments yet. Write the first one below." in everything_said(at)
    field(at, "run", "r000001").set_value(HOSTILE)
    send(at)
    (html,) = drawn(at)
    assert (
        "&lt;script&gt;alert(1)&lt;/script&gt; **x** [a](b)\n<span class='mention'>@Bob</span> &amp; co"
        in html
    )
    assert field(at, "run", "r000001", 1).value == ""
    (comment,) = activity.list_comments(people.database, "run", "r000001")
    assert (comment.person_id, comment.text) == ("p-ada", HOSTILE)


def test_a_refused_comment_stays_in_its_field(people: Team, open_as: OpenAs) -> None:
    at = open_as(ADA, RUN, run="r000001", tab="comments")
    people(BOB, "delete", job="r000001")
    field(at, "run", "r000001").set_value("All of this was work")
    send(at)
    assert not drawn(at)
    assert activity.list_comments(people.database, "run", "r000001") == []


def test_an_empty_comment_is_refused_in_words(open_as: OpenAs) -> None:
    at = open_as(ADA, RUN, run="r000001", tab="comments")
    send(at)
    assert "text" in at.error[0].value


def test_ones_own_is_changed_and_deleted_and_no_other(people: Team, open_as: OpenAs) -> None:
    about = {"subject_kind": "run", "subject_id": "r000001"}
    own = people(ADA, "comment", **about, text="First")["comment_id"]
    other = people(BOB, "comment", **about, text="Second")["comment_id"]
    at = open_as(ADA, RUN, run="r000001", tab="comments")
    keys = {str(button.key) for button in at.button}
    assert {f"comment-edit-{own}", f"comment-gone-sure-{own}"} <= keys
    assert not {f"comment-edit-{other}", f"comment-gone-sure-{other}"} & keys
    at.button(key=f"comment-edit-{own}").click().run()
    next(area for area in at.text_area if area.value == "First").set_value("Better")
    at.button(key=f"comment-save-{own}").click().run()
    assert "just now, edited" in everything_said(at)
    assert [comment.text for comment in activity.list_comments(people.database, "run", "r000001")] == [
        "Better",
        "Second",
    ]
    at.button(key=f"comment-gone-sure-{own}").click().run()
    assert [comment.text for comment in activity.list_comments(people.database, "run", "r000001")] == [
        "Second"
    ]


def test_a_viewer_reads_and_has_nothing_to_press(people: Team, open_as: OpenAs) -> None:
    people(ADA, "comment", subject_kind="run", subject_id="r000001", text="Look")
    at = open_as(VIEWER, RUN, run="r000001", tab="comments")
    assert len(drawn(at)) == 1
    assert not [
        button for button in at.button if button.label == "Comment" or str(button.key).startswith("comment-")
    ]


def test_rows_and_comparisons_are_commented_on_in_their_place(people: Team, open_as: OpenAs) -> None:
    at = open_as(BOB, "pages/data/data.py", dataset="d00000", row="3")
    field(at, "row", "d00000/3").set_value("Wrong")
    send(at)
    assert len(drawn(at)) == 1
    at = open_as(BOB, "pages/data/data.py", dataset="d00000", row="4")
    assert not drawn(at)
    at = open_as(ADA, "pages/comparison/compare.py", runs="r000003,r000001")
    field(at, "comparison", "runs=r000001,r000003").set_value("The first")
    send(at)
    assert len(drawn(open_as(BOB, "pages/comparison/compare.py", runs="r000001,r000003"))) == 1


def test_what_was_done_to_a_run_last_stands_under_its_comments(people: Team, open_as: OpenAs) -> None:
    for number in range(6):
        people(BOB, "edit_run", run="r000001", notes=f"Try {number}")
    at = open_as(BOB, RUN, run="r000001", tab="comments")
    assert "**You** changed" in everything_said(at)
    assert "All 7 lines" in [link.proto.label for link in at.get("page_link")]
