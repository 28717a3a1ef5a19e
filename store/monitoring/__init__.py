"""Monitors, requests, alerts and webhooks: schemas and queries."""
