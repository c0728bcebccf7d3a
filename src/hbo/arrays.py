"""Names of array types. Letters behind a variable's name say its axes: K datasets, L levels, N rows, B batch, T tokens.

`p_K` is an array (K,), `q_KL` one (K, L); C stands for whatever one actor chooses between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
"""Random bits, 64 at a time."""
Narrow = NDArray[np.signedinteger[Any]]
"""Whole numbers in as few bytes as they need: with 100 million rows the width decides."""
