"""A run from its order to its verdict, what it will cost, and what its preview warns of.

In the order of reading: `train_job`, `training_run`, `engine.data.training_rows`, `reference_probes`,
`training_loop`, `optimizer_step`, `validation`, `run_verdict`.
"""
