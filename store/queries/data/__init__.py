"""Questions about data sets: their rows, what was measured of them, their versions."""
