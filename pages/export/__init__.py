"""The Export tab of runs and model versions."""
