"""Endpoints: what they serve and to whom, their backends, and what watches over them."""
