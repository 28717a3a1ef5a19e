"""A model for each form and file: what may be asked, checked field by field. What is asked of the store is in
`queries`.
"""
