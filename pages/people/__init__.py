"""Sign-in, team, personal account and activity."""
