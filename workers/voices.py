"""What raters said of the two versions of a trial, kept up with as it is said. Light; no torch."""

from collections.abc import Iterable
from dataclasses import replace

from redis import Redis

from feedback.reader import FeedbackReader, Place, Said
from feedback.types import Comparison, Thumb, Winner
from serving.canary.lead import Voice
from serving.releases import Trial

BEFORE = 20_000  # events that tell how lenient a rater was


class Voices:
    """Reads only what is new at each look; after a restart from the trial's beginning.

    What counts is what chance dealt out: thumbs on replies that the router gave to a version since the trial
    began, and blind pairs of the two. A changed mind counts once, a withdrawn one not at all. What a rater
    said before tells how lenient they are.
    """

    def __init__(self, redis: Redis, trial: Trial) -> None:
        self._reader = FeedbackReader(redis)
        self._trial = trial
        self._place = trial.place
        self._before = self._reader.thumbs_before(trial.place, BEFORE)
        self._said: dict[Place, Said | None] = {}

    def read(self) -> list[Voice]:
        """One for each rater, the version beside its baseline."""
        until = self._reader.cursor()
        # What stood nowhere may have waited for its reply to be logged.
        open_ones = [place for place, said in self._said.items() if said is None]
        places = list(dict.fromkeys([*open_ones, *self._reader.changed(self._place, until)]))
        found = self._reader.standing(places)
        self._said |= {place: found.get(place) for place in places}
        self._place = until
        voices = heard(self._trial, filter(None, self._said.values()))
        return [replace(voice, before=self._before.get(rater, (0, 0))) for rater, voice in voices.items()]


def heard(trial: Trial, said: Iterable[Said]) -> dict[str, Voice]:
    """rater → what he said of the two."""
    voices: dict[str, Voice] = {}
    for one in said:
        rater = one.label.rater
        if one.label.source == "human" and one.a.created >= trial.started:
            before = voices.get(rater, Voice())
            if (after := _with(before, trial, one)) is not before:
                voices[rater] = after
    return voices


def _with(voice: Voice, trial: Trial, said: Said) -> Voice:
    label = said.label
    if isinstance(label, Comparison):
        return _with_choice(voice, trial, said, label.winner)
    if not said.a.routed:
        return voice
    up = label.rating is Thumb.up
    if said.a.policy == trial.version:
        return replace(voice, challenger=_one_more(voice.challenger, up))
    if said.a.policy == trial.baseline:
        return replace(voice, champion=_one_more(voice.champion, up))
    return voice


def _with_choice(voice: Voice, trial: Trial, said: Said, winner: Winner) -> Voice:
    pair = said.pair
    if pair is None or pair.expires is None:  # not blind: the rater named the two
        return voice
    if {pair.policy_a, pair.policy_b} != {trial.version, trial.baseline}:
        return voice
    if winner in (Winner.tie, Winner.both_bad):
        return replace(voice, ties=voice.ties + 1)
    won = pair.policy_a if winner is Winner.a else pair.policy_b
    if won == trial.version:
        return replace(voice, wins=voice.wins + 1)
    return replace(voice, losses=voice.losses + 1)


def _one_more(thumbs: tuple[int, int], up: bool) -> tuple[int, int]:
    return thumbs[0] + up, thumbs[1] + (not up)
