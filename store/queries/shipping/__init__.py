"""Questions about registered models, their gates and exports."""
