"""What counters add up to: fields of `layout`'s hashes → figures by version, by pair, by reason. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from feedback.filters import EVERYTHING, Filter
from feedback.types import Winner

PairOf = tuple[str, str]  # the versions on sides a and b


@dataclass(slots=True)
class Counts:
    """Of one version. `rated`: completions that have a thumb, or were in an answered pair."""

    completions: int = 0
    broken: int = 0
    tokens: int = 0
    rated: int = 0
    up: int = 0
    down: int = 0
    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def thumbs(self) -> int:
        return self.up + self.down

    @property
    def approval(self) -> float | None:
        """Share of thumbs that are up; None without thumbs."""
        return self.up / self.thumbs if self.thumbs else None

    @property
    def response_rate(self) -> float | None:
        """Share of the completions that somebody said something of."""
        return self.rated / self.completions if self.completions else None

    def as_dict(self) -> dict[str, float | int | None]:
        return {**asdict(self), "approval": self.approval, "response_rate": self.response_rate}


@dataclass(slots=True)
class Choices:
    """Comparisons of one version on side a with one on side b, by winner."""

    a: int = 0
    b: int = 0
    tie: int = 0
    both_bad: int = 0

    @property
    def total(self) -> int:
        return self.a + self.b + self.tie + self.both_bad

    def add(self, winner: str, by: int) -> None:
        setattr(self, winner, getattr(self, winner) + by)


@dataclass(slots=True)
class Tally:
    """`blind`: choices between two whose sides were shuffled and whose versions were hidden; `named`: the
    others. `reasons`: kind → reason → how often."""

    policies: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    blind: dict[PairOf, Choices] = field(default_factory=lambda: defaultdict(Choices))
    named: dict[PairOf, Choices] = field(default_factory=lambda: defaultdict(Choices))
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def comparisons(self) -> int:
        return sum(choices.total for choices in (*self.blind.values(), *self.named.values()))

    @property
    def labels(self) -> int:
        return sum(counts.thumbs for counts in self.policies.values()) + self.comparisons

    def cells(self) -> dict[PairOf, Choices]:
        """Both ways of comparing together."""
        found: dict[PairOf, Choices] = defaultdict(Choices)
        for pair, choices in (*self.blind.items(), *self.named.items()):
            for winner in Winner:
                found[pair].add(winner, getattr(choices, winner))
        return found


def tally(counters: Iterable[Mapping[str, int]], only: Filter = EVERYTHING) -> Tally:
    """The sum of some hashes. A comparison is taken where either side is."""
    sums: dict[str, int] = {}
    for found in counters:
        for name, value in found.items():
            sums[name] = sums.get(name, 0) + value
    result = Tally()
    for name, count in sums.items():
        _put(result, _parts(name), count, only)
    return result


def series_of(name: str, only: Filter) -> str | None:
    """What a field adds to of all that is drawn by time: up, down, completions or comparisons."""
    match _parts(name):
        case ("of", policy, "up" | "down" | "completions" as series):
            return series if only.takes(policy) else None
        case ("pair", _, a, b, _):
            return "comparisons" if only.takes(a) or only.takes(b) else None
    return None


def _put(result: Tally, parts: tuple[str, ...], value: int, only: Filter) -> None:
    match parts:
        case ("of", policy, name):
            if only.takes(policy):
                counts = result.policies[policy]
                setattr(counts, name, getattr(counts, name) + value)
        case ("pair", way, a, b, winner):
            if value and (only.takes(a) or only.takes(b)):
                (result.blind if way == "blind" else result.named)[a, b].add(winner, value)
                for policy, name in _outcomes(a, b, winner):
                    if only.takes(policy):
                        counts = result.policies[policy]
                        setattr(counts, name, getattr(counts, name) + value)
        case ("reason", kind, policy, reason):
            if value and only.takes(policy):
                result.reasons[kind][reason] += value


def _outcomes(a: str, b: str, winner: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """What a comparison is to each of its sides' versions."""
    match winner:
        case "a":
            return (a, "wins"), (b, "losses")
        case "b":
            return (a, "losses"), (b, "wins")
        case "tie":
            return (a, "ties"), (b, "ties")
        case _:
            return (a, "both_bad"), (b, "both_bad")


@lru_cache(maxsize=20_000)
def _parts(name: str) -> tuple[str, ...]:
    """A field's parts; only a reason, the last, may hold spaces."""
    return tuple(name.split(" ", 3 if name.startswith("reason ") else -1))
