"""The background process and its workers: data preparation, training, evaluation and diagnostics."""

import os

# Before transformers is imported: kernels of a hub are code, and none is run (`store.core.model_folders`).
os.environ["USE_HUB_KERNELS"] = "NO"
