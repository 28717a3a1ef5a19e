"""The monitor of an endpoint: false and true alarms, and its queries on ten million requests."""
