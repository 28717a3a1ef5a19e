"""The screens about what is served."""
