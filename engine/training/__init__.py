"""Training runs: from the job specification to the verdict, with cost estimates and preview warnings.

Reading order: `train_job`, `training_run`, `engine.data.training_rows`, `reference_probes`, `training_loop`,
`optimizer_step`, `validation`, `run_verdict`.
"""
