"""The background process and its workers: data preparation, training, evaluation and diagnostics."""

import os
import sys

# Set before transformers is imported: kernels from a hub are code, and none is run
# (`store.core.model_folders`). The variable stops transformers where it asks for one by itself; transformers
# and bitsandbytes have other ways that don't read it, and all of them import the package `kernels`, which
# transformers installs. With None in its place the import fails, and both fall back to torch.
os.environ["USE_HUB_KERNELS"] = "NO"
sys.modules["kernels"] = None  # type: ignore[assignment]
