"""Questions about what endpoints were asked: logs taken in, traffic, feedback, drift, alerts and webhooks."""
