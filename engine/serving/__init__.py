"""Endpoints: the gateway that speaks OpenAI's protocol, and the processes that answer behind it."""
