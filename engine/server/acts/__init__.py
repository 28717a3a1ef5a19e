"""What a command is, whom and what it concerns, and the note that is kept of it."""
