"""What leaves the house: models being registered, their cards, exports with their proof."""
