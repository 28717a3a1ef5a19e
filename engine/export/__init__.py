"""Model exports: their formats, the files of each, and the check of an export against its model."""
