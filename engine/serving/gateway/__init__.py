"""The gateway of one endpoint: a separate process that needs its folder only, not the engine."""
