"""Endpoints: what they serve, the commands about them, and the gateways that are kept running for them."""
