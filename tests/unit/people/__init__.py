"""People: passwords, sessions, invitations, tokens, and the forms by which they come in."""
