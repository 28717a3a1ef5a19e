"""What every screen uses and no screen owns: session, reads, charts, figures, wording."""
