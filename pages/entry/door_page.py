"""What a browser is shown that the door does not let in: why, and where the address with its secret is found.

A page without script, image or font from elsewhere, in the colours of the screens, light and dark.
"""

from __future__ import annotations

from html import escape

from pages.shared import brand

_WHERE = """
<p>The address ends in a secret, which keeps other accounts of this machine out. It stands in the terminal in
which <code>tunebench up</code> was started. To see it again, run this command on the machine on which
Tunebench runs:</p>
<pre>tunebench url</pre>
<p>Your browser keeps the secret: bookmarks and links work from then on.</p>
"""
_STYLE = """
:root {
  color-scheme: light dark;
  --back: #ffffff; --box: #f3f6f6; --text: #17242a; --link: #0b6e69; --line: #dce4e4;
}
@media (prefers-color-scheme: light) { .dark { display: none } }
@media (prefers-color-scheme: dark) {
  :root { --back: #0f1619; --box: #1a2428; --text: #e5edee; --link: #63cdc2; --line: #2b3a3f }
  .light { display: none }
}
body {
  margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.55 "Source Sans 3", "Source Sans Pro", system-ui, sans-serif;
}
main { max-width: 34rem; margin: 12vh auto 3rem; padding: 0 1.25rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1.75rem 0 1rem }
a { color: var(--link) }
code, pre {
  font: 0.9em ui-monospace, "Source Code Pro", monospace; background: var(--box); border-radius: 6px;
}
code { padding: 0.1em 0.35em; white-space: nowrap }
pre { padding: 0.75rem 1rem; border: 1px solid var(--line); overflow-x: auto }
"""


def no_secret() -> str:
    """For a browser that does not bring the secret."""
    return page("Open Tunebench by its whole address", _WHERE)


def from_elsewhere() -> str:
    """For one that follows a link of another site: it brings the secret only with what is clicked here."""
    link = '<p><a href="">Open this page of Tunebench</a></p><p>If that leads back here:</p>'
    return page("A link on another site brought you here", link + _WHERE)


def wrong_name(problem: str) -> str:
    """For a request by a name that is none of ours, or from a page of another site."""
    return page("This address is not answered", f"<p>{escape(problem)}</p>")


def going_on(address: str) -> str:
    """A page that goes on to another one by itself, in whose place in the history that one comes."""
    refresh = f'<meta http-equiv="refresh" content="0; url={escape(address)}">'
    return page("Opening", f'<p><a href="{escape(address)}">Go on</a></p>', refresh)


def page(heading: str, body: str, head: str = "") -> str:
    """A whole document."""
    marks = "".join(
        f'<span class="{"dark" if dark else "light"}">{brand.wordmark(dark)}</span>' for dark in (False, True)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tunebench</title>{head}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{marks}<h1>{heading}</h1>{body}</main></body></html>"
    )
