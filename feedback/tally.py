"""What counters add up to: fields of `layout`'s hashes → figures by version, by pair, by reason. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import chain

from feedback.filters import EVERYTHING, Filter
from feedback.layout import IMPORTED

PairOf = tuple[str, str]  # the versions on sides a and b


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

    @property
    def turned(self) -> "Choices":
        """With the sides changed."""
        return Choices(self.b, self.a, self.tie, self.both_bad)

    def add(self, other: "Choices") -> None:
        self.a += other.a
        self.b += other.b
        self.tie += other.tie
        self.both_bad += other.both_bad


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

    def play(self, choices: Choices) -> None:
        """Comparisons in which this version was on side a."""
        self.wins += choices.a
        self.losses += choices.b
        self.ties += choices.tie
        self.both_bad += choices.both_bad

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
class Tally:
    """`blind`: choices between two whose sides were shuffled and whose versions were hidden; `named`: the
    others; `cells`: both together. `reasons`: kind → reason → how often."""

    policies: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    blind: dict[PairOf, Choices] = field(default_factory=lambda: defaultdict(Choices))
    named: dict[PairOf, Choices] = field(default_factory=lambda: defaultdict(Choices))
    cells: dict[PairOf, Choices] = field(default_factory=lambda: defaultdict(Choices))
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def labels(self) -> int:
        thumbs = sum(counts.thumbs for counts in self.policies.values())
        return thumbs + sum(choices.total for choices in self.cells.values())


@dataclass(slots=True)
class Heard:
    """Who was heard of, oldest first, and how many labels there are by where their replies come from."""

    versions: list[str]
    human: int = 0
    imported: int = 0


def tally(counters: Mapping[str, int], only: Filter = EVERYTHING) -> Tally:
    """Of a hash, or of the sum of some. A comparison is taken where either side is."""
    result = Tally()
    for name, count in counters.items():
        _put(result, _parts(name), count, only)
    for pairs in (result.blind, result.named):
        for (a, b), choices in pairs.items():
            result.cells[a, b].add(choices)
            for policy, mine in ((a, choices), (b, choices.turned)):
                if only.takes(policy):
                    result.policies[policy].play(mine)
    return result


def heard(counters: Mapping[str, int]) -> Heard:
    """What the `tally` of a hash says of versions and sources, at a fraction of its cost."""
    sums = {False: 0, True: 0}
    seen: set[tuple[str, ...]] = set()
    for name, count in counters.items():
        policies, is_label, imported = _heard(name)
        if is_label:
            sums[imported] += count
        if count or not is_label:
            seen.add(policies)
    return Heard(sorted(set(chain(*seen)), key=age_of), sums[False], sums[True])


def age_of(policy: str) -> tuple[int, str]:
    """The order of versions: by number; what has none, first."""
    number = policy.rpartition("-v")[2]
    return (int(number) if number.isdecimal() else -1, policy)


@lru_cache(maxsize=20_000)
def _heard(name: str) -> tuple[tuple[str, ...], bool, bool]:
    """The versions of ours that a field is about; whether it counts labels; whether of imported replies."""
    match _parts(name):
        case ("of", policy, kind):
            ours = tuple({policy} - {IMPORTED})
            return ours, kind in ("up", "down"), not ours
        case ("pair", _, a, b, _):
            ours = tuple({a, b} - {IMPORTED})
            return ours, True, not ours
    return (), False, False


def drawn(counters: Mapping[str, int], only: Filter) -> dict[str, int]:
    """What is drawn by time of a hash: thumbs, comparisons, and the replies given."""
    row = {"up": 0, "down": 0, "comparisons": 0, "completions": 0}
    for name, value in counters.items():
        if (series := _series(name, only)) is not None:
            row[series] += value
    return row


def _series(name: str, only: Filter) -> str | None:
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
                choices = (result.blind if way == "blind" else result.named)[a, b]
                setattr(choices, winner, getattr(choices, winner) + value)
        case ("reason", kind, policy, reason):
            if value and only.takes(policy):
                result.reasons[kind][reason] += value


@lru_cache(maxsize=20_000)
def _parts(name: str) -> tuple[str, ...]:
    """A field's parts; only a reason, the last, may hold spaces."""
    return tuple(name.split(" ", 3 if name.startswith("reason ") else -1))
