"""Who asks, and how people get in: sessions, tokens, passwords, invitations. Decided here alone."""
