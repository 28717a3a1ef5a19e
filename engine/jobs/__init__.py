"""One module a kind of job, each with `run(job)`. What several kinds need lies in the folder of its topic."""
