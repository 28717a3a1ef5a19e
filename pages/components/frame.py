"""What holds on every screen beside the theme file: what is chosen can be read, no tab is out of sight."""

from __future__ import annotations

import streamlit as st


def show_frame() -> None:
    """Draw nothing, and say how a few of Streamlit's own parts look.

    Streamlit writes a chosen tab, pill or segment in the primary colour, which must also be dark enough for
    the white text of a primary button: in dark mode no colour does both. So what is chosen is written in the
    theme's colour of links. On a phone tabs take as many lines as they need, without their icons.
    """
    theme = "dark" if st.context.theme.type == "dark" else "light"
    color = st.get_option(f"theme.{theme}.linkColor")
    st.html(
        f"""<style>
.stTabs [role="tab"][data-selected], .stTabs [role="tab"][aria-selected="true"],
.stButtonGroup button[data-variant][data-selected]:not([data-disabled]) {{color: {color}}}
@media (max-width: 640px) {{
  .stTabs [role="tablist"] {{flex-wrap: wrap; row-gap: 0; overflow: visible}}
  .stTabs [role="tab"] [role="img"] {{display: none !important}}
}}
</style>"""
    )
