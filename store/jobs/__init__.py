"""Jobs and their events: the queue, job specs, and ingest of metric points."""
