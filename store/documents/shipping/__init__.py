"""Models that leave the house: registered versions, what these have to pass, and exports with their proof."""
