"""Writes docs/truth.md and the tables of docs/methods.md, metrics.md and team.md anew:
`python -m store.words.tables`."""

from __future__ import annotations

from pathlib import Path

from store.words import methods_text, metric_words, rights_text, truth_text

DOCS = Path(__file__).parents[2] / "docs"


def with_table(page: str, table: str) -> str:
    """The page with this table in place of the one that has the same first line."""
    head = table.partition("\n")[0] + "\n"
    before, _, after = page.partition(head)
    rows = after.splitlines(keepends=True)
    end = next((place for place, line in enumerate(rows) if not line.startswith("|")), len(rows))
    return before + table + "".join(rows[end:])


def main() -> None:
    tables = {
        "methods.md": methods_text.markdown(),
        "metrics.md": metric_words.markdown(),
        "team.md": rights_text.markdown(),
    }
    for name, table in tables.items():
        path = DOCS / name
        path.write_text(with_table(path.read_text("utf-8"), table), "utf-8")
    (DOCS / "truth.md").write_text(truth_text.markdown(), "utf-8")


if __name__ == "__main__":
    main()
