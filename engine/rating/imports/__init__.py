"""Import of ratings collected elsewhere: column mapping, reading, and the rounds built from them."""
