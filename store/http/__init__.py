"""Communication between processes: the engine's server, its client, access control, uploads and
other bodies.
"""
