"""The config of a run, its methods and its costs: schemas and sentences."""
