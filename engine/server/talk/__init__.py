"""The playground of the engine: the process that holds models, whose turn it is, what is kept."""
