"""Models that leave the house: registered versions, what they have to pass, their exports and the proof of these."""
