"""The background process and its workers: data preparation, training, evaluation and diagnostics."""

import os

# Set before transformers is imported: kernels from a hub are code, and none is run
# (`store.core.model_folders`).
os.environ["USE_HUB_KERNELS"] = "NO"
