"""Monitors of endpoints: logs read, signals measured, drift and failures tested, alerts sent."""
