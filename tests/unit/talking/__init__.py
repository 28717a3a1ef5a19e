"""The playground without a model: texts, settings, conversations, endpoints."""
