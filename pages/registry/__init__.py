"""Model registry: models, versions, gates and aliases."""
