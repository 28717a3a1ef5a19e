"""The worker process, and a job's interface in it: specification, folder, progress."""
