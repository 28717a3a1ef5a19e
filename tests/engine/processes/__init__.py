"""Engine, launcher and workers: started, killed, installed."""
