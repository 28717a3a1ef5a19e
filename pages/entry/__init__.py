"""How people come in where they sign in: their sessions, the forms without script, the organisation's
provider.
"""
