"""Launch: the form of a run, its preview and advice."""
