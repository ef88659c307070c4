"""Labels in folds, of which each is looked at with what the others say. Pure; no torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def units(conversations: Sequence[str]) -> NDArray[np.int64]:
    """(labels,): which labels stand or fall together: those of a conversation. Where there is but one, each
    label is taken for itself: that is too sure of them, but else nothing could be told from it."""
    found = np.unique(np.asarray(conversations, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
    return found if len(found) and found.max() > 0 else np.arange(len(found))


def folds(unit: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """(labels,): which of at most `count` folds each is in, at random, with all of its unit."""
    order = np.random.default_rng(seed).permutation(int(unit.max(initial=-1)) + 1)
    fold: NDArray[np.int64] = (order % count)[unit]
    return fold
