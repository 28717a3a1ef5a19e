"""Models that leave the house: versions, exports, and a look at what endpoints are asked."""
