"""The engine process: commands, people, the queue, and what a finished job brings into the store."""
