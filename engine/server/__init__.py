"""The engine process: commands, people, the job queue, and storage of job results."""
