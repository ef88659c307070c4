"""What raters said of the two versions of a trial, kept up with as it is said. Light; no torch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from redis import Redis

from feedback.reader import FeedbackReader, Place, Said
from feedback.types import Comparison, Thumb, Winner
from serving.canary.lead import Voice
from serving.releases import Trial

BEFORE = 20_000  # events that tell how lenient a rater was
PAGE = 500  # labels that are read at once, with their replies


class Voices:
    """Reads only what is new at each look; after a restart from the trial's beginning.

    What counts is what chance dealt out: thumbs on replies that the trial's draw gave to a version since it
    has its share, and blind pairs of the two. A changed mind counts once, a withdrawn one not at all. Of
    several raters of one reply the first counts: chance dealt it out once. What a rater said before tells how
    lenient they are.
    """

    def __init__(self, redis: Redis, trial: Trial) -> None:
        self._reader = FeedbackReader(redis)
        self._trial = trial
        self._place = trial.place
        self._before = self._reader.thumbs_before(trial.place, BEFORE)
        self._said: dict[Place, Fact | None] = {}

    def read(self) -> list[Voice]:
        """One for each rater, the version beside its baseline."""
        until = self._reader.cursor()
        # What stood nowhere may have waited for its reply to be logged.
        open_ones = [place for place, fact in self._said.items() if fact is None]
        places = list(dict.fromkeys([*open_ones, *self._reader.changed(self._place, until)]))
        for start in range(0, len(places), PAGE):
            self._keep(places[start : start + PAGE])
        self._place = until
        voices: dict[str, Voice] = {}
        told: set[str] = set()
        for fact in filter(None, self._said.values()):
            if fact.of in told:
                continue
            told.add(fact.of)
            voices[fact.rater] = with_fact(voices.get(fact.rater, Voice()), fact)
        return [replace(voice, before=self._before.get(rater, (0, 0))) for rater, voice in voices.items()]

    def _keep(self, places: Sequence[Place]) -> None:
        """What stands at these places now, as far as it counts."""
        found = self._reader.standing(places)
        for place in places:
            said = found.get(place)
            fact = None if said is None else fact_of(self._trial, said)
            if said is None or fact is not None:
                self._said[place] = fact
            else:
                self._said.pop(place, None)


class Fact(NamedTuple):
    """What one label is to a voice: `of` which reply or pair, `says` is the field of `Voice` that it adds to,
    `up` of a thumb."""

    rater: str
    of: str
    says: Literal["champion", "challenger", "wins", "losses", "ties"]
    up: bool = False


def fact_of(trial: Trial, said: Said) -> Fact | None:
    """None of what does not count."""
    label = said.label
    if label.source != "human" or said.a.created < trial.since:
        return None
    if isinstance(label, Comparison):
        return _choice(trial, said, label)
    if not said.a.routed or said.a.policy not in (trial.version, trial.baseline):
        return None
    arm: Literal["champion", "challenger"] = "challenger" if said.a.policy == trial.version else "champion"
    return Fact(label.rater, said.a.id, arm, label.rating is Thumb.up)


def _choice(trial: Trial, said: Said, label: Comparison) -> Fact | None:
    pair = said.pair
    if pair is None or pair.expires is None:  # not blind: the rater named the two
        return None
    if {pair.policy_a, pair.policy_b} != {trial.version, trial.baseline}:
        return None
    if label.winner in (Winner.tie, Winner.both_bad):
        return Fact(label.rater, pair.id, "ties")
    won = pair.policy_a if label.winner is Winner.a else pair.policy_b
    return Fact(label.rater, pair.id, "wins" if won == trial.version else "losses")


def with_fact(voice: Voice, fact: Fact) -> Voice:
    match fact.says:
        case "champion":
            return replace(voice, champion=_one_more(voice.champion, fact.up))
        case "challenger":
            return replace(voice, challenger=_one_more(voice.challenger, fact.up))
        case "wins":
            return replace(voice, wins=voice.wins + 1)
        case "losses":
            return replace(voice, losses=voice.losses + 1)
        case "ties":
            return replace(voice, ties=voice.ties + 1)


def _one_more(thumbs: tuple[int, int], up: bool) -> tuple[int, int]:
    return thumbs[0] + up, thumbs[1] + (not up)
