"""Metrics over stored answers: `measure.py` is the way in, `store.metric_table` the list."""
