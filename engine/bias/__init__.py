"""Bias checks: probes of base and tuned model, statistics of the differences, the command and the job."""
