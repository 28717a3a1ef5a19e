"""The playground without a model: texts, settings, conversations, endpoints, and its address on the screens."""
