"""Tokens through a model: batches, the packed forward of a CPU, losses, generation, trees of answers.
Whatever model it is; where models come from is in `models`.
"""
