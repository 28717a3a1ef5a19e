"""Endpoints' logs, drift, alerts and webhooks."""
