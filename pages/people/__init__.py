"""Sign-in, the team, one's own account, and what everybody did."""
