"""What a rater sees: the rounds that they can rate, and the desk. It comes by commands, as that person, and
tells of no model; nothing here reads what people share, which holds who wrote which answer.
"""
