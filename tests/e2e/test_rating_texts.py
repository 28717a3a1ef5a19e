"""How texts that nobody vouches for become elements, and which words differ: run by a real browser."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from pages.rating.rater.desk import build_script

pytestmark = pytest.mark.timeout(120)

MAX_MILLISECONDS = 1000.0  # milliseconds for what takes fifty, on whatever machine this is
LENGTH = 50_000


HELPERS = """
function html(text) {
  const all = document.createElement("div");
  all.append(renderMarkdown(text));
  return all.innerHTML.replace(/ dir="\\w+"/g, "");
}
function marks(before, after) {
  return differences(before, after)?.map((side) => [...side]) ?? null;
}
function timed(name, ...all) {
  const from = performance.now();
  window[name](...all);
  return performance.now() - from;
}
// The first of the texts that, shown piece by piece, is at some point not what it is when shown at once.
function grown(texts, size) {
  for (const text of texts) {
    const growing = new GrowingMarkdown();
    for (let end = 0; end < text.length + size; end += size) {
      const sofar = text.slice(0, end);
      growing.show(sofar);
      const whole = element("div", {}, renderMarkdown(sofar));
      if (growing.root.innerHTML !== whole.innerHTML) return [sofar, growing.root.innerHTML, whole.innerHTML];
    }
  }
  return null;
}
function streamed(text, size) {
  const growing = new GrowingMarkdown();
  for (let end = size; end < text.length + size; end += size) growing.show(text.slice(0, end));
}
Object.assign(window, {html, marks, timed, grown, streamed});
"""


@pytest.fixture(scope="module")
def run(browser: Browser) -> Iterator[Callable[..., Any]]:
    """Calls one of the functions above, beside the component's script."""
    page = browser.new_page()
    page.evaluate(f"() => {{ {build_script().replace('export default', '')} {HELPERS} }}")
    yield lambda name, *arguments: page.evaluate("([name, all]) => window[name](...all)", [name, arguments])
    page.close()


def milliseconds(run: Callable[..., Any], name: str, *arguments: object) -> float:
    """How long a function takes in the browser, without the way there and back."""
    return float(run("timed", name, *arguments))


RENDERED = {
    "# Head #": '<h3 class="level-1">Head</h3>',
    "a **b *c* d** e": "<p>a <strong>b <em>c</em> d</strong> e</p>",
    "***both***": "<p><strong><em>both</em></strong></p>",
    "snake_case_name and 2 * 3 * 4": "<p>snake_case_name and 2 * 3 * 4</p>",
    "one\ntwo": "<p>one<br>two</p>",
    "`a < b` and ``c ` d``": "<p><code>a &lt; b</code> and <code>c ` d</code></p>",
    r"\*plain\*": "<p>*plain*</p>",
    "- a\n  - b\n- c": "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>",
    "3. c\n4. d": '<ol start="3"><li>c</li><li>d</li></ol>',
    "> a\n> b\n\nc": "<blockquote><p>a<br>b</p></blockquote><p>c</p>",
    "---": "<hr>",
    "<b>x</b> & <!-- y -->": "<p>&lt;b&gt;x&lt;/b&gt; &amp; &lt;!-- y --&gt;</p>",
    "[a](javascript:b)": '<p><span class="link"><span class="label">a</span> '
    '<bdi class="address">javascript:b</bdi></span></p>',
    "an [open one and *too": "<p>an [open one and *too</p>",
    "```\nopen <i>": '<figure class="code"><pre tabindex="0"><code>open &lt;i&gt;</code></pre></figure>',
}


@pytest.mark.parametrize("text", RENDERED)
def test_markdown_becomes_these_elements(run: Callable[..., Any], text: str) -> None:
    assert run("html", text) == RENDERED[text]


def test_a_table_has_the_cells_of_its_head(run: Callable[..., Any]) -> None:
    html = run("html", "| a | b |\n|:--|--:|\n| 1 \\| 2 | **3** |\n| 4 |")
    assert html == (
        '<div class="table" tabindex="0"><table><thead><tr><th>a</th><th>b</th></tr></thead>'
        "<tbody><tr><td>1 | 2</td><td><strong>3</strong></td></tr><tr><td>4</td><td></td></tr></tbody>"
        "</table></div>"
    )


TRYING = [
    *(
        "*",
        "_a",
        "**a*",
        "[",
        "[a](",
        "![",
        "`a``",
        "`" * 7,
        "<http://",
        "\\",
        "> ",
        "- ",
        "1. a\n",
        "#",
        "~~~\n",
    ),
    *("| ", "\n|-", " ", "x" * 1000, "# " + " " * 400 + "x\n", "a|b\n-" + " " * 400 + "x\n"),
]


@pytest.mark.parametrize("part", TRYING)
def test_no_text_takes_long(run: Callable[..., Any], part: str) -> None:
    assert milliseconds(run, "html", (part * LENGTH)[:LENGTH] + "x") < MAX_MILLISECONDS


GAP = " " * 200_000
LINES = ["~" * 200_000 + "`", f"~~~{GAP}`", f"```{GAP}`", f"# {GAP}x\u2028y", f"- {GAP}x\u2028y"]


@pytest.mark.parametrize("line", LINES, ids=["tildes", "after tildes", "after ticks", "heading", "item"])
def test_no_line_takes_long(run: Callable[..., Any], line: str) -> None:
    assert milliseconds(run, "html", line) < MAX_MILLISECONDS


PIECES = [
    "a",
    "b c",
    "\n",
    "\n\n",
    "\n\n",
    "- ",
    "2",
    "1. ",
    "  ",
    "# ",
    "```",
    "> ",
    "|",
    "a | b",
    "\n-|-",
    "**",
    "_",
    "`",
    "---",
]


def test_a_text_that_grows_is_at_each_moment_what_it_is_at_once(run: Callable[..., Any]) -> None:
    chance = random.Random(0)
    texts = ["".join(chance.choices(PIECES, k=30)) for _ in range(300)]
    assert run("grown", [*texts, *RENDERED], 1) is None


def test_a_long_answer_costs_little_while_it_streams(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    part = (
        "## A step\n\nSome **bold** words and `code`, told at length.\n\n- one\n- two\n\n```\nline\n```\n\n"
    )
    texts = {
        "mixed": part * 180,
        "one list": "- an item of it\n" * 1000,
        "one code": "```\n" + "a line\n" * 2300,
    }
    for name, text in texts.items():
        draws = 200
        took = milliseconds(run, "streamed", text[:16_000], 16_000 // draws)
        with capsys.disabled():
            print(f"\n4,000 tokens of {name}: {took / draws:.1f} ms each time they are drawn")
        assert took < (
            MAX_MILLISECONDS if name == "mixed" else 10 * MAX_MILLISECONDS
        )  # a block is drawn whole while it grows


def words(text: str) -> list[str]:
    return text.split()


def test_words_that_one_text_lacks_are_marked(run: Callable[..., Any]) -> None:
    assert run("marks", words("a b c d"), words("a x c d e")) == [[0, 1, 0, 0], [0, 1, 0, 0, 1]]
    assert run("marks", [], words("a")) == [[], [1]]
    assert run("marks", words("a b"), words("a b")) == [[0, 0], [0, 0]]


def test_long_texts_are_compared_fast_or_not_at_all(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    common = [f"w{place * 7919 % 1000}" for place in range(10_000)]  # no word that is rare
    changed = [f"new{place}" if place % 97 == 0 else word for place, word in enumerate(common)]
    other = [f"v{place * 104729 % 900}" for place in range(10_000)]
    for name, text in (("near", changed), ("far", other)):
        before, after = run("marks", common, text)
        took = milliseconds(run, "marks", common, text)
        with capsys.disabled():
            print(f"\n10,000 words compared with a {name} text: {took:.0f} ms")
        assert took < MAX_MILLISECONDS
        assert [word for word, mark in zip(common, before, strict=True) if not mark] == [
            word for word, mark in zip(text, after, strict=True) if not mark
        ]  # what is unmarked is the same in both
        assert (sum(before) < 500) == (name == "near")
    assert run("marks", common * 3, changed) is None
