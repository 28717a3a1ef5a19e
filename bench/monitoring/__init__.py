"""The monitor of an endpoint: false alarms, true ones, and its questions at ten million requests."""
