"""Endpoints: the gateway with the OpenAI API, and the backend processes that generate the answers."""
