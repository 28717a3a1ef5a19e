"""Pages outside the app, as plain HTML without scripts: sign-in, invitation, sign-out, and access denied."""

from __future__ import annotations

import time
from html import escape
from urllib.parse import urlencode

from pages.shared import brand
from store.core.formatting import plural
from store.core.rights import MEANINGS
from store.core.schemas import InvitationOffer
from store.people.config import MIN_PASSWORD

_WHERE = """
<p>The address ends in a secret, which keeps out other accounts on this machine. It was printed in the
terminal that started <code>tunebench up</code>. To see it again, run this command on
the machine that runs Tunebench:</p>
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


def render_missing_secret() -> str:
    """Page for a browser without the secret."""
    return render_page("Open Tunebench with its full address", _WHERE)


def render_cross_site() -> str:
    """Page for a link on another site, with which the browser does not send the cookie; it links to
    itself.
    """
    link = '<p><a href="">Open this page of Tunebench</a></p><p>If that leads back here:</p>'
    return render_page("A link on another site brought you here", link + _WHERE)


def render_wrong_host(problem: str) -> str:
    """Page for a request with an unknown host name, or from a page of another site."""
    return render_page("This address is not served", f"<p>{escape(problem)}</p>")


def render_redirect(address: str) -> str:
    """Page that navigates to another one by itself, which replaces it in the history."""
    refresh = f'<meta http-equiv="refresh" content="0; url={escape(address)}">'
    return render_page("Opening", f'<p><a href="{escape(address)}">Continue</a></p>', refresh)


def render_page(heading: str, body: str, head: str = "") -> str:
    """Render a complete document."""
    marks = "".join(
        f'<span class="{"dark" if dark else "light"}">{brand.render_wordmark(dark)}</span>'
        for dark in (False, True)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tunebench</title>{head}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{marks}<h1>{heading}</h1>{body}</main></body></html>"
    )


_FORM_STYLE = """<style>
form { display: grid; gap: 1rem; margin: 1.5rem 0 }
label { display: grid; gap: 0.3rem; font-weight: 600 }
label small { font-weight: 400; opacity: 0.8 }
input {
  font: inherit; font-weight: 400; color: inherit; background: var(--back); min-width: 0;
  border: 1px solid var(--edge); border-radius: 8px; padding: 0.55rem 0.75rem;
}
input:read-only { background: var(--box) }
button, .button {
  font: inherit; font-weight: 600; border-radius: 8px; padding: 0.6rem 1rem; cursor: pointer;
  border: 1px solid var(--act); background: var(--act); color: #ffffff;
  text-align: center; text-decoration: none; display: block;
}
.plain { background: none; color: var(--link); border-color: var(--line) }
button:focus-visible, .button:focus-visible, input:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px;
}
.problem {
  border-left: 4px solid var(--bad); background: var(--box); padding: 0.75rem 1rem; border-radius: 6px;
}
.or { display: flex; align-items: center; gap: 0.75rem; opacity: 0.8 }
.or::before, .or::after { content: ""; flex: 1; border-top: 1px solid var(--line) }
:root { --act: #0b6e69; --bad: #b3261e; --edge: #7d8b90 }
@media (prefers-color-scheme: dark) { :root { --act: #148077; --bad: #ff8a80; --edge: #6b7c82 } }
</style>"""


def render_sign_in(there: str, email: str, problem: str, provider: str) -> str:
    """Sign-in form.

    `there`: where it leads; `provider`: name of the organization's sign-in, or "".
    """
    body = _render_problem(problem)
    if provider:
        to = escape("/sign-in/provider?" + urlencode({"next": there}))
        body += (
            f'<p><a class="button" href="{to}">Sign in with {escape(provider)}</a></p><p class="or">or</p>'
        )
    body += _render_form_tag(
        "/sign-in",
        _render_hidden_field("next", there),
        _render_field("email", "E-mail", email, kind="email", fill="username"),
        _render_field("password", "Password", kind="password", fill="current-password"),
        _render_button("Sign in", plain=bool(provider)),
    )
    body += "<p>No account, or forgot your password? Ask an admin of your team for a link.</p>"
    return render_page("Sign in to Tunebench", body, _FORM_STYLE)


def render_invitation(
    code: str, offer: InvitationOffer, email: str, name: str, problem: str, provider: str
) -> str:
    """Form that creates an account, or sets a new password for an existing one."""
    fixed_email = offer["email"]
    fields = [_render_hidden_field("code", code)]
    if not offer["name"]:
        fields.append(_render_field("name", "Your name, as others will see it", name, fill="name"))
    fixed = fixed_email is not None
    address = _render_field(
        "email", "E-mail", fixed_email or email, kind="email", fill="username", fixed=fixed
    )
    fields.append(address)
    fields.append(
        _render_field(
            "password",
            "Password",
            kind="password",
            fill="new-password",
            hint=f"{MIN_PASSWORD} characters or more, such as a sentence.",
        )
    )
    hours = max(1, round((offer["expires_at"] - time.time()) / 3600))
    ends = f"{hours} hour{'s' if hours > 1 else ''}" if hours < 48 else f"{hours // 24} days"
    if offer["name"]:
        heading = f"New password for {escape(offer['name'])}"
        lead = (
            "<p>Setting it ends all sessions and revokes all API tokens. The link works once and "
            f"expires in {ends}.</p>"
        )
        button = _render_button("Set password and sign in")
    else:
        heading = "You are invited to Tunebench"
        role = f"Your role is <b>{offer['role']}</b>: {MEANINGS[offer['role']]}."
        lead = f"<p>{role} The link works once and expires in {ends}.</p>"
        button = _render_button("Create account")
    if provider and fixed_email and not offer["name"]:
        label = f"Sign in with {escape(provider)} as {escape(fixed_email)}"
        lead += f'<p><a class="button" href="/sign-in/provider">{label}</a></p>'
        lead += '<p class="or">or with a password</p>'
    return render_page(
        heading,
        _render_problem(problem) + lead + _render_form_tag("/invitation", *fields, button),
        _FORM_STYLE,
    )


def render_password_set(ended: int) -> str:
    """Page after a new password was set by a link, which revoked API tokens that scripts may use."""
    what = (
        f"{plural(ended, 'API token')} were revoked with the old password. Create new ones on the You page."
    )
    return render_page(
        "Password set", f'<p>{what}</p><p><a class="button" href="/">Continue</a></p>', _FORM_STYLE
    )


def render_sign_out(name: str, provider: str) -> str:
    """Page that asks for confirmation: a link alone, which any site may contain, signs nobody out.

    `provider`: name of the organization's sign-in if the person used it, or "".
    """
    also = f"<p>This also signs you out at {escape(provider)}, if it supports that.</p>" if provider else ""
    back = '<a class="button plain" href="/">Cancel</a>'
    return render_page(
        f"Sign out, {escape(name)}?",
        also + _render_form_tag("/sign-out", _render_button("Sign out"), back),
        _FORM_STYLE,
    )


def render_signed_out_locally(provider: str) -> str:
    """Page after a sign-out that the provider does not support on its side."""
    name = escape(provider)
    why = (
        f"<p>You are still signed in at {name}, so the next person to use this browser could sign in as "
        f"you. On a shared computer, sign out at {name} too.</p>"
    )
    return render_page(
        "You are signed out of Tunebench", why + '<p><a href="/sign-in">Sign in</a></p>', _FORM_STYLE
    )


def render_refusal(heading: str, problem: str) -> str:
    """Page with an error and a link back to the form."""
    return render_page(
        escape(heading), _render_problem(problem) + '<p><a href="/sign-in">Sign in</a></p>', _FORM_STYLE
    )


def render_engine_unavailable(problem: str) -> str:
    """Page while the engine has not answered yet; it reloads by itself."""
    again = '<meta http-equiv="refresh" content="2">'
    return render_page("The engine is not running", f"<p>{escape(problem)}</p>", again)


def render_sign_in_disabled() -> str:
    """Page if the screens are served to other machines without sign-in, so that access is refused."""
    why = "Tunebench is served to other machines, which requires sign-in, but sign-in is off."
    return render_page(
        "Sign-in is off",
        f"<p>{why} To turn it on, run this command on the machine:</p><pre>tunebench team on</pre>",
    )


def _render_problem(text: str) -> str:
    return f'<p class="problem" role="alert">{escape(text)}</p>' if text else ""


def _render_form_tag(action: str, *parts: str) -> str:
    return f'<form method="post" action="{action}">{"".join(parts)}</form>'


def _render_hidden_field(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'


def _render_field(
    name: str,
    label: str,
    value: str = "",
    *,
    kind: str = "text",
    fill: str,
    fixed: bool = False,
    hint: str = "",
) -> str:
    small = f"<small>{hint}</small>" if hint else ""
    lock = " readonly" if fixed else ""
    return (
        f'<label>{label}{small}<input name="{name}" type="{kind}" value="{escape(value)}" '
        f'autocomplete="{fill}" required{lock}></label>'
    )


def _render_button(label: str, *, plain: bool = False) -> str:
    return f'<button type="submit"{" class=plain" if plain else ""}>{label}</button>'
