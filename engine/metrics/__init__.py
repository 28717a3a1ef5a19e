"""Metrics over stored answers: `measure.py` is the way in, `store.catalog.metric_table` the list."""
