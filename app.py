"""The screens' entry point: page frame, navigation and the banner of an engine that is away; no content."""

from __future__ import annotations

import streamlit as st

from pages.shared import brand, frame
from pages.shared.session import engine_banner, redraw_if_asked

st.set_page_config(page_title="Tunebench", page_icon=brand.mark(), layout="wide")

PAGES = {
    "Look": [
        st.Page(
            "pages/overview/overview.py",
            title="Overview",
            icon=":material/space_dashboard:",
            default=True,
            help="What is running, and what came out: all runs, the queue and the machine.",
        ),
        st.Page(
            "pages/data/data.py",
            title="Data sets",
            icon=":material/dataset:",
            url_path="data",
            help="Import rows from a file or the hub, look at them and see how they are split.",
        ),
    ],
    "Train": [
        st.Page(
            "pages/launch/launch.py",
            title="Launch",
            icon=":material/rocket_launch:",
            url_path="launch",
            help="Choose a model, a data set and a method; see what it costs; start the run.",
        ),
        st.Page(
            "pages/run/run.py",
            title="Runs",
            icon=":material/show_chart:",
            url_path="run",
            help="One run: its curves while it learns, its verdict, and how much of the tuning to keep.",
        ),
    ],
    "Judge": [
        st.Page(
            "pages/compare/compare.py",
            title="Compare",
            icon=":material/stacked_line_chart:",
            url_path="compare",
            help="Several runs side by side, what each gain cost, and what a run does for other data.",
        ),
        st.Page(
            "pages/evaluations/evaluations.py",
            title="Evaluations",
            icon=":material/fact_check:",
            url_path="evaluations",
            help="Any model or run on any rows: figures with intervals, compared row by row.",
        ),
        st.Page(
            "pages/playground/playground.py",
            title="Playground",
            icon=":material/forum:",
            url_path="playground",
            help="Talk to up to four models side by side, and see how sure they are of every token.",
        ),
    ],
}

page = st.navigation(PAGES)

dark = st.context.theme.type == "dark"
st.logo(brand.wordmark(dark), size="large", icon_image=brand.mark(dark))
frame.show_frame()
engine_banner()
page.run()
redraw_if_asked()
