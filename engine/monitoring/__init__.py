"""Monitors of endpoints: log ingestion, signals, drift, latency and error tests, and alerts."""
