"""The Clean tab of a data set: the recipe, its preview and its effect."""
