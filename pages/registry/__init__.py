"""Models: registered models, their versions, gates and aliases."""
