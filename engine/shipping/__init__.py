"""Models that leave the house: registered, and exported in the forms that others read, with proof.

`registering` copies a model into a version of its own. `subject` is what is exported, `forms` write it (one
file a form), `parity` reads it back in another process and compares it with the model that was evaluated,
`publish` gives the folder its checksums and its name.
"""
