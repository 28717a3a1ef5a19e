"""What answers cost: endpoints, the playground, exported models."""
