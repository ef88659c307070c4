"""How sure a share is. Pure."""

from math import sqrt
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


def wilson(count: float, of: int) -> tuple[float, float] | None:
    """The 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212); None of nothing.

    It stays within [0, 1] and does not shrink to nothing where all agree. Ties that count as half of one make
    it wider than it need be, never narrower: they vary less than what is all or nothing.
    """
    if of == 0:
        return None
    share, z2 = count / of, Z * Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z / (1 + z2 / of) * sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)
