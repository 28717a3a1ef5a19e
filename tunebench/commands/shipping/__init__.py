"""Models that leave the house: `model …`, `serve`, `endpoint …`, `monitor`."""
