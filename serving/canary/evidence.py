"""With what surety a mean is above 0, looked at as often as one likes. Pure.

What is called evidence is an e-value: were there nothing to find, it would ever reach 1/alpha with a
probability of at most alpha (Ville 1939), whoever looks and whenever.

Of means over raters and replies it leans on the central limit theorem (an asymptotic confidence sequence:
Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, arXiv 2103.06476; with a delayed start: Bibaut, Kallus
and Lindon 2022, arXiv 2212.14411), so nobody asks before there are enough of them. tests/bench/release.py
measures what that is worth.
"""

import math

LARGEST_LOG = 700.0  # beyond it exp overflows


def log_evidence(lead: float, variance: float, scale: float) -> float:
    """The logarithm of the evidence that the mean of `lead` ~ N(θ, V) is above 0: the likelihood ratio of
    θ against 0, mixed over a half-normal θ > 0 of scale τ.

        2 ∫₀^∞ N(θ; 0, τ²) exp(θ·lead/V - θ²/2V) dθ = 2 √(V/(V+τ²)) exp(z²/2) Φ(z),   z = τ·lead/√(V(V+τ²))

    Without the 2 and Φ it is the two-sided mixture of Robbins (1970, "Statistical methods related to the law
    of the iterated logarithm") in the form of Johari, Pekelis and Walsh (2017, "Always valid inference",
    arXiv 1512.04922, the mSPRT of normal data). Half of it is a supermartingale under every θ <= 0.
    """
    spread = variance + scale**2
    z = scale * lead / math.sqrt(variance * spread)
    return math.log(2) + 0.5 * math.log(variance / spread) + _log_tilted(z)


def margin(variance: float, scale: float, alpha: float) -> float:
    """The lead from which on `log_evidence` reaches log(1/alpha). So lead ± margin is a confidence sequence:
    each end holds at all times with 1 - alpha."""
    spread = variance + scale**2
    wanted = math.log(1 / (2 * alpha)) + 0.5 * math.log(spread / variance)
    low, high = -1.0, math.sqrt(2 * (abs(wanted) + 1))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_tilted(middle) < wanted else (low, middle)
    return high * math.sqrt(variance * spread) / scale


def evidence(lead: float, variance: float, scale: float) -> float:
    """`log_evidence` as it is, as far as a float goes."""
    return math.exp(min(log_evidence(lead, variance, scale), LARGEST_LOG))


def _log_tilted(z: float) -> float:
    """z²/2 + log Φ(z); it grows with z. Far down, where erfc is 0, Φ is the first terms of its tail."""
    if z < -30:
        return math.log1p(-1 / z**2) - math.log(-z * math.sqrt(2 * math.pi))
    return z * z / 2 + math.log(math.erfc(-z / math.sqrt(2)) / 2)
