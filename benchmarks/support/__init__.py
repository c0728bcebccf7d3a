"""What the benchmarks share."""

import os

# As `hbo` itself does on the command line: read by torch at its first large allocation, so set before anything else.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
