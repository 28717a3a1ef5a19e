"""The loop, the same for every method: steps, validations, probes between steps, checkpoints, alarms."""
