"""The tab and the form of exported models."""
