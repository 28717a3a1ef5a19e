"""What is answered before a run: previews, costs, advice, renderings."""
