"""Models exported in each form, and exports that were spoiled on purpose."""
