"""The Monitor page: alerts, traffic, drift, feedback and the labeling queue of an endpoint."""
