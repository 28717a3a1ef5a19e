"""A model in the forms in which it leaves: what each costs in size, speed and loss, and making another, on
the page of a run and of a registered version.
"""
