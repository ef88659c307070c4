"""Whether a candidate may replace what is live. Pure functions on numbers; no torch, no I/O."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workers.evidence import STRICT, Evidence, Habits, LengthTaste, Quality, Sides, WinRate, percent
from workers.stage import StageConfig


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    reasons: list[str] = field(default_factory=list)


class Limits(StageConfig):
    """What the gate allows.

    `min_alike`: prompts with replies of like length, or all that were answered where those are fewer.
    `max_kl`, `max_kl_champion`: nats a token. `max_nll_rise`: share of the base's. `max_length_ratio`: mean
    words, either way. `max_repetition_rise`, `max_cut_rise`, `max_formula_rise`: of shares of replies.
    `max_disagreement_rise`: share of the champion's. `max_gap`: of win rates. `probe_z`: standard errors.
    `min_judge_labels`: from how many on the judge's accuracy itself has to be above chance.
    """

    min_prompts: int = 4
    min_alike: int = 6
    max_kl: float = 0.5
    max_kl_champion: float = 0.3
    max_nll_rise: float = 0.02
    max_length_ratio: float = 3.0
    max_repetition_rise: float = 0.1
    max_cut_rise: float = 0.3
    max_disagreement_rise: float = 0.25
    max_formula_rise: float = 0.2
    max_gap: float = 0.25
    probe_z: float = 2.33
    min_judge_labels: int = 40


CHAMPION = "the champion"

Rule = Callable[[Evidence, Limits], str | None]


def judge_candidate(evidence: Evidence, limits: Limits) -> Verdict:
    """Accept a candidate that the held-out judge prefers, and that is still a language model. Rejected, it
    hears of everything that speaks against it."""
    faults = [fault for rule in RULES if (fault := rule(evidence, limits)) is not None]
    note = _note(evidence.quality)
    if faults:
        return Verdict(False, faults + note)
    rate, why = deciding(evidence, limits)
    return Verdict(True, [f"the held-out judge prefers it in {rate}{why}", *note])


def undecided(evidence: Evidence, limits: Limits) -> bool:
    """Whether all that speaks against a candidate is that the judge, who likes it better, is not sure: the
    next update goes on from it, while the champion answers (as AlphaGo Zero's did, Silver et al. 2017)."""
    rate, _ = deciding(evidence, limits)
    if rate is None or rate.interval[0] > 0.5 or not min(rate.value, evidence.raw.value) > 0.5:
        return False
    alike = _alike(evidence, limits)
    if alike is not None and alike.interval[1] < 0.5:
        return False
    return all(rule is preferred or rule(evidence, limits) is None for rule in RULES)


def deciding(evidence: Evidence, limits: Limits) -> tuple[WinRate | None, str]:
    """The win rate that decides, and why that one, as the end of a sentence.

    Pairs of like length decide, since a reward model is easily led to pay for length. Where people's own
    labels prove that they want such lengths as the candidate moved to, length is part of what they like, and
    all pairs decide. Where too few pairs are alike in length and nothing proves that, none does: else the
    larger drift would be the easier way.
    """
    taste, ratio = evidence.length_taste, evidence.words.ratio
    if not evidence.words.other:
        return evidence.raw, ", whatever their length: the champion's replies are empty"
    if taste is not None and _wanted(taste, ratio):
        share, (low, high) = taste.longer, taste.interval
        if ratio < 1:
            share, low, high = 1 - share, 1 - high, 1 - low
        return evidence.raw, (
            f", whatever their length: its replies are {ratio:.2f} times as long, and people like the "
            f"{'longer' if ratio > 1 else 'shorter'} one better in {share:.0%} {percent((low, high))} of "
            f"{taste.labels} labels"
        )
    alike = _alike(evidence, limits)
    return (None, "") if alike is None else (alike, " of like length")


def enough_prompts(evidence: Evidence, limits: Limits) -> str | None:
    if evidence.raw.prompts >= limits.min_prompts:
        return None
    return f"only {evidence.raw.prompts} held-out prompts were answered, {limits.min_prompts} are needed"


def finite(evidence: Evidence, _: Limits) -> str | None:
    figures = (evidence.raw.value, evidence.members.value, evidence.kl_base, evidence.kl_champion)
    if all(map(math.isfinite, (*figures, evidence.nll.candidate, evidence.nll.other))):
        return None
    return "a score or log-probability is not finite"


def preferred(evidence: Evidence, limits: Limits) -> str | None:
    """The lower end of the interval lies above ½: an equal one passes as rarely as half of what the
    confidence leaves out."""
    if evidence.raw.prompts < limits.min_prompts:
        return None  # `enough_prompts` says so
    rate, why = deciding(evidence, limits)
    if rate is None:
        alike = 0 if evidence.matched is None else evidence.matched.prompts
        return (
            f"its replies are {evidence.words.ratio:.2f} times as long: on only {alike} prompts is one about "
            f"as long as one of the champion's, {_enough_alike(evidence, limits)} are needed, and no labels "
            "prove that people want such lengths"
        )
    if not rate.interval[0] > 0.5:
        return f"the held-out judge prefers it in {rate}{why}: not surely more than half"
    if not evidence.raw.value >= 0.5:
        return f"at like length the held-out judge prefers it, but over all only in {evidence.raw}"
    at_like_length = _alike(evidence, limits)
    if at_like_length is not None and at_like_length.interval[1] < 0.5:
        return f"at like length it is surely worse, the held-out judge prefers it in {at_like_length}"
    return None


def judge_is_worth_asking(evidence: Evidence, limits: Limits) -> str | None:
    """A judge that is surely worse than chance is not believed, and of many labels it must be right in more
    than half. On fewer a good one seems no better than chance too often: the note says so."""
    quality = evidence.quality
    if quality.accuracy is None or quality.accuracy > 0.5:
        return None
    if quality.labels < limits.min_judge_labels and not quality.interval[1] < 0.5:
        return None
    return (
        f"the held-out judge was right in {quality.accuracy:.0%} of {quality.labels} held-out labels: it is "
        "no better than chance, so nobody can tell"
    )


def near_the_base(evidence: Evidence, limits: Limits) -> str | None:
    return _too_far(evidence.kl_base, limits.max_kl, "base")


def near_the_champion(evidence: Evidence, limits: Limits) -> str | None:
    return _too_far(evidence.kl_champion, limits.max_kl_champion, "champion")


def still_writes_plain_text(evidence: Evidence, limits: Limits) -> str | None:
    """Against the base, not the champion: else each version could give away a little more."""
    rise = evidence.nll.ratio - 1
    if not rise > limits.max_nll_rise:
        return None
    return (
        f"plain text has become less likely: {evidence.nll.candidate:.3f} nats a token of the reference set, "
        f"{rise:.1%} more than the base's {evidence.nll.other:.3f}; {limits.max_nll_rise:.1%} are allowed"
    )


def still_passes_the_probes(evidence: Evidence, limits: Limits) -> str | None:
    dropped = [
        f"{kind} probes passed fell from {found.rate.other:.0%}{whose} to {found.rate.candidate:.0%} of "
        f"{found.replies} replies"
        for whose, habits in (("", evidence), (" (the base)", evidence.base))
        if habits is not None
        for kind, found in habits.probes.items()
        if found.z < -limits.probe_z
    ]
    return ", and ".join(dropped) or None


def of_like_length(evidence: Evidence, limits: Limits) -> str | None:
    """An empty champion is no measure. The base is none either where people want what has changed since."""
    taste, limit = evidence.length_taste, limits.max_length_ratio
    for whose, habits in _others(evidence):
        words = habits.words
        if not words.other or 1 / limit <= words.ratio <= limit:
            continue
        if whose == CHAMPION or taste is None or not _wanted(taste, words.ratio):
            return (
                f"its replies have {words.candidate:.0f} words, {whose}'s {words.other:.0f}: a ratio beyond "
                f"{limit:g}"
            )
    return None


def not_repetitive(evidence: Evidence, limits: Limits) -> str | None:
    what = {
        "empty": "of its replies are empty",
        "identical": "of its replies are the same for different prompts",
        "trigrams": "of what it says it has said before, three words in a row",
    }
    return _risen(evidence, what, limits.max_repetition_rise)


def not_cut(evidence: Evidence, limits: Limits) -> str | None:
    what = {"cut": "of its replies were cut at the most tokens allowed"}
    return _risen(evidence, what, limits.max_cut_rise)


def not_over_optimised(evidence: Evidence, limits: Limits) -> str | None:
    """A candidate that shows signs of flattering the members has to convince the judge at STRICT.

    A sign alone rejects nothing: members spread as their rewards grow, a weak judge sees less than they do,
    and people may really like a closing. But where there is one, the one time in ten that a candidate no
    better passes is too often.
    """
    signs = over_optimised(evidence, limits)
    rate, _ = deciding(evidence, limits)
    if not signs or rate is None or rate.strict[0] > 0.5:
        return None
    return (
        f"over-optimised, it seems: {', and '.join(signs)}; so the held-out judge has to prefer it at "
        f"{STRICT:.0%} confidence, and does in {rate.value:.0%} {percent(rate.strict)} of comparisons"
    )


def of_one_mind(evidence: Evidence, _: Limits) -> str | None:
    """Members whose mean rises, while they disagree more and one of them surely likes the candidate less than
    the champion: what the others pay for is their own error (the worst case of an ensemble: Coste et al.
    2023, arXiv 2310.02743). No judge outweighs that."""
    doubter = evidence.doubter
    risen = evidence.members.interval[0] > 0.5 and evidence.disagreement_rise[0] > 0
    if not (risen and doubter.interval[1] < 0.5):
        return None
    return (
        f"over-optimised: the reward's members prefer it in {evidence.members.value:.0%} of comparisons, but "
        f"disagree more than on the champion's replies, by {evidence.disagreement.candidate:.3f} against "
        f"{evidence.disagreement.other:.3f}, and one of them prefers it in only {doubter}"
    )


def over_optimised(evidence: Evidence, limits: Limits) -> list[str]:
    """Signs that the candidate found what the members pay for, not what people like; none unless the members
    prefer it (Gao, Schulman and Hilton, arXiv 2210.10760)."""
    if not evidence.members.interval[0] > 0.5:
        return []
    signs = []
    if evidence.disagreement_rise[0] > limits.max_disagreement_rise:
        signs.append(
            f"the reward's members prefer it but disagree more, by {evidence.disagreement.candidate:.3f} "
            f"against {evidence.disagreement.other:.3f}"
        )
    if evidence.gap[0] > limits.max_gap:
        signs.append(
            f"the reward's members prefer it in {evidence.members.value:.0%} of comparisons and the judge, "
            f"which never rewarded it, in {evidence.raw.value:.0%}"
        )
    for how, share in (("begin", evidence.openings), ("end", evidence.endings)):
        if share.rise > limits.max_formula_rise:
            signs.append(
                f"{share.candidate:.0%} of its replies {how} like one to another prompt (the champion's: "
                f"{share.other:.0%})"
            )
    return signs


RULES: tuple[Rule, ...] = (
    enough_prompts,
    finite,
    preferred,
    judge_is_worth_asking,
    near_the_base,
    near_the_champion,
    still_writes_plain_text,
    still_passes_the_probes,
    of_like_length,
    not_repetitive,
    not_cut,
    not_over_optimised,
    of_one_mind,
)


def _too_far(kl: float, limit: float, what: str) -> str | None:
    return (
        f"it is {kl:.2f} nats a token away from the {what}, {limit:.2f} are allowed" if kl > limit else None
    )


def _wanted(taste: LengthTaste, ratio: float) -> bool:
    """Whether people's labels prove that they like it where lengths have moved to."""
    low, high = taste.interval
    return (ratio > 1 and low > 0.5) or (ratio < 1 and high < 0.5)


def _enough_alike(evidence: Evidence, limits: Limits) -> int:
    return max(limits.min_prompts, min(limits.min_alike, evidence.raw.prompts))


def _alike(evidence: Evidence, limits: Limits) -> WinRate | None:
    """The win rate at like length, if it was measured on enough prompts."""
    found = evidence.matched
    return found if found is not None and found.prompts >= _enough_alike(evidence, limits) else None


def _others(evidence: Evidence) -> list[tuple[str, Evidence | Habits]]:
    """Beside the champion the base, else each version could give away a little more."""
    base = evidence.base
    return [(CHAMPION, evidence)] if base is None else [(CHAMPION, evidence), ("the base", base)]


def _risen(evidence: Evidence, what: Mapping[str, str], limit: float) -> str | None:
    risen = []
    for whose, habits in _others(evidence):
        for name, said in what.items():
            share: Sides = getattr(habits, name)
            if share.rise > limit:
                risen.append(f"{share.candidate:.0%} {said} ({whose}: {share.other:.0%})")
    return ", and ".join(risen) or None


def _note(quality: Quality) -> list[str]:
    if quality.accuracy is None or quality.labels == 0:
        return ["how good the judge is was never measured"]
    if quality.interval[0] > 0.5:
        return []
    return [
        f"the judge itself was right in {quality.accuracy:.0%} {percent(quality.interval)} of "
        f"{quality.labels} held-out labels, which does not prove it better than chance"
    ]
