"""What answers: backends, their connections and places, and how an answer of theirs is read."""
