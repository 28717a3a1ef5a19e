"""Tables that forms, documentation, engine and tests share: formats, signals, methods, metrics, models that
only read, templates, languages. Facts alone: what a user asks for is in `config`.
"""
