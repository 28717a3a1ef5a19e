"""The form that starts a rating round: its prompts, its models, and how people rate."""
