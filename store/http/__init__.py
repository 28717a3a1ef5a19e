"""Between processes: the engine's server, its client, who may ask, uploads and other bodies."""
