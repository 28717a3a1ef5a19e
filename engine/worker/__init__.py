"""A child process and what a job in it sees of the world: its order, its folder, its progress."""
