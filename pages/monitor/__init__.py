"""Is what is served still good? The screen of endpoints' traffic, drift, quality and alerts."""
