"""Cost of responses: endpoints, the playground, exported models."""
