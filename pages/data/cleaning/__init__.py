"""The tab that cleans a data set: the recipe, its preview and what it changed."""
