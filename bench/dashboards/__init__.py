"""The dashboard at a thousand runs, beside MLflow and Trackio with the same data."""
