"""The page of `tests.e2e.rating_store`: a heading, a part that reruns, and the desk."""

import streamlit as st

from pages.rating.rater.desk import draw_rating_component

st.set_page_config(page_title="Rating", layout="wide")
st.subheader("Helpfulness of two answers")
if "rerun" in st.query_params:
    st.button("Rerun")
    st.text_input("A field of the page")
draw_rating_component(st.query_params.get("round", "pairwise-20-default"), key="desk")
