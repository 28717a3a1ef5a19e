"""The chain: one row of steps, each with how it stands, what there is to count and the way to it; on a phone
from top to bottom."""

from __future__ import annotations

import html

import streamlit as st

from pages.improve.chain_steps import STANDINGS, ChainStep, Standing
from pages.shared import figures, palette
from pages.shared.progress_bar import doing, fraction

KEY = "improve-chain"
INKS: dict[Standing, str] = {
    "done": palette.GOOD,
    "now": palette.BUSY,
    "person": palette.TRAIN,
    "failed": palette.BAD,
    "stopped": palette.BASE,
    "later": palette.BASE,
}
ICONS: dict[Standing, str] = {"done": "check", "failed": "close", "stopped": "stop"}
# A line joins each circle with the next: to the right, and on a phone down.
STYLE = f"""<style>
.st-key-{KEY} [data-testid="stColumn"] {{position: relative}}
.st-key-{KEY} [data-testid="stColumn"]:not(:last-child)::before {{content: ""; position: absolute;
  top: 1.2rem; left: 2.9rem; right: -.5rem; height: 2px;
  background: color-mix(in srgb, currentColor 16%, transparent)}}
.st-key-{KEY} [data-testid="stColumn"]:not(:last-child):has(.tb-done)::before {{background: {palette.GOOD}}}
.st-key-{KEY} [data-testid="stVerticalBlock"] {{gap: 0}}
.st-key-{KEY} [data-testid="stPageLink"] a {{padding-left: 0; min-height: 0; background: none}}
.st-key-{KEY} [data-testid="stPageLink"] a p {{font-weight: 400}}
.tb-link-step .tb-circle {{display: grid; place-items: center; width: 2.4rem; height: 2.4rem;
  border-radius: 50%; border: 2px solid var(--ink); color: var(--ink); box-sizing: border-box;
  font-family: "Material Symbols Rounded"; font-size: 1.3rem; line-height: 1; font-weight: 400;
  background: color-mix(in srgb, var(--ink) 10%, transparent); font-feature-settings: "liga"}}
.tb-link-step.tb-done .tb-circle {{background: var(--ink); color: #fff}}
.tb-link-step.tb-now .tb-circle, .tb-link-step.tb-person .tb-circle {{
  box-shadow: 0 0 0 4px color-mix(in srgb, var(--ink) 18%, transparent)}}
.tb-link-step.tb-now .tb-circle {{animation: tb-breathes 2s ease-in-out infinite}}
.tb-link-step.tb-later .tb-circle {{border-style: dashed; background: none; opacity: .7}}
.tb-link-step.tb-later .tb-title {{opacity: .65; font-weight: 400}}
.tb-link-step .tb-title {{font-weight: 600; margin-top: .5rem; line-height: 1.3}}
.tb-link-step .tb-said {{font-size: .84rem; opacity: .8; line-height: 1.35; overflow-wrap: anywhere}}
.tb-link-step .tb-stands {{font-size: .8rem; line-height: 1.4;
  color: color-mix(in srgb, var(--ink) 72%, currentColor)}}
@keyframes tb-breathes {{50% {{box-shadow: 0 0 0 7px color-mix(in srgb, var(--ink) 8%, transparent)}}}}
@media (prefers-reduced-motion: reduce) {{.tb-link-step.tb-now .tb-circle {{animation: none}}}}
@media (max-width: 640px) {{
  .st-key-{KEY} [data-testid="stHorizontalBlock"] {{gap: .9rem}}
  .st-key-{KEY} [data-testid="stColumn"] {{min-width: 100%}}
  .st-key-{KEY} [data-testid="stColumn"]:not(:last-child)::before {{
    top: 2.9rem; left: 1.15rem; right: auto; bottom: -.6rem; width: 2px; height: auto}}
  .tb-link-step {{display: grid; grid-template-columns: 2.4rem 1fr; gap: 0 .9rem}}
  .tb-link-step .tb-circle {{grid-row: 1 / span 4}}
  .tb-link-step .tb-title {{margin-top: 0}}
  .tb-link-step > :not(.tb-circle) {{grid-column: 2}}
  .st-key-{KEY} [data-testid="stPageLink"] {{padding-left: 3.3rem}}
}}
</style>"""


def draw_chain(steps: list[ChainStep]) -> None:
    """All steps; those to come without more than their name."""
    theme = "dark" if st.context.theme.type == "dark" else "light"
    ink = st.get_option(f"theme.{theme}.linkColor")
    links = f"<style>.st-key-{KEY} [data-testid=stPageLink] a p {{color: {ink}}}</style>"
    st.html(figures.STYLE + STYLE + links)
    with st.container(key=KEY):
        for column, step in zip(st.columns(len(steps), gap="small"), steps, strict=True):
            with column:
                st.html(step_html(step))
                if step.link is not None:
                    st.page_link(
                        f"pages/{step.link.page}.py",
                        label=step.link.label,
                        query_params=dict(step.link.query),
                    )


def step_html(step: ChainStep) -> str:
    """One step; the circle is decoration, and words say the same."""
    icon = ICONS.get(step.standing, step.icon)
    stands = "" if step.standing in ("done", "later") else STANDINGS[step.standing]
    detail, bar = step.detail, ""
    if step.job is not None:
        counted = f"{detail}. " if step.key == "measuring" else ""  # one of several evaluations is at work
        detail = counted + doing(step.job)
        bar = "" if step.job["status"] == "queued" else figures.bar(fraction(step.job))
    parts = [
        f"<div class='tb-circle' aria-hidden='true'>{icon}</div>",
        f"<div class='tb-title'>{html.escape(step.title)}</div>",
        f"<div class='tb-stands'>{stands}</div>" if stands else "",
        f"<div class='tb-said'>{html.escape(detail)}{bar}</div>" if detail or bar else "",
    ]
    title = html.escape(STANDINGS[step.standing])
    return (
        f"<div class='tb-link-step tb-{step.standing}' style='--ink: {INKS[step.standing]}' title='{title}'>"
        f"{''.join(parts)}</div>"
    )
