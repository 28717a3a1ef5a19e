"""People: who is on the team and what each may do, and what everybody has of their own."""
