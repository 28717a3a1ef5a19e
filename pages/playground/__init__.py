"""The screen on which people talk to models, several side by side."""
