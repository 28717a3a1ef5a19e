"""Monitor: alerts, drift, quality and labels of what an endpoint answered."""
