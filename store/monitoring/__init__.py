"""Monitors, logged requests, feedback, alerts and webhooks: types and queries."""
