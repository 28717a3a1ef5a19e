"""What all parts agree on before any of them works: the home folder, job folders and their files, states,
errors, and how documents are written. Nothing here knows a form, a table or a database.
"""
