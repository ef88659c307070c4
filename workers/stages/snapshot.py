"""Feedback since the cursor and a replay sample of what came before → train, holdout and prompts. No torch.

What it costs depends on `max_labels` and on `replay`, not on how much was ever said: of more that is new, as
after an import, some are drawn, and the others are among what later jobs replay from. Labels come with
weights, so that no rater rules what is learnt, nor what is measured on (workers.reward.weights). Weighed is
what is trained on: when more is new than that, it is drawn from before, and what the judge learns from is
weighed apart from what the others do.

    python -m workers.stages.snapshot DIR

Where Redis is, it reads from the environment, as every process does: an address can hold a password.
"""

import random
from collections.abc import Sequence
from typing import Any

from feedback.reader import FeedbackReader, Place
from feedback.redis import connect
from feedback.stats import Stats
from feedback.types import content_hash
from workers.datasets import (
    asked_in_holdout,
    by_learner,
    for_judge,
    labels_of,
    only_on_their_side,
    prompts_of,
    split,
)
from workers.labels import Label, write_labels, write_prompts
from workers.reward.weights import drawn, weigh, weigh_each
from workers.settings import WorkerSettings
from workers.stage import Stage, StageConfig, run, write_json

MAX_HOLDOUT = 512  # held-out labels that are measured on: enough to tell, and bounded
READ = 4  # times `max_labels`: what is new and read, at most; a third is the judge's, some are held out


class Config(StageConfig):
    """`cursor`: what has been learnt from already; `replay`: labels of that past to mix in, at most;
    `holdout`: share of conversations that is only measured on; `prompts`: newest completions to take prompts
    from, and as many imported prompts; `max_labels`: labels to learn from, at most; `rater_cap` and
    `pair_share`: as in workers.reward.weights."""

    cursor: str
    replay: int
    holdout: float
    prompts: int
    seed: int
    max_labels: int = 1024
    rater_cap: float = 0.02
    pair_share: float = 0.5


def main(config: Config, stage: Stage) -> dict[str, Any]:
    redis = connect(WorkerSettings().redis_url)
    reader = FeedbackReader(redis)
    given = Stats(redis).labels()
    until = reader.cursor()
    places = reader.changed(config.cursor, until)
    read = _some(places, READ * config.max_labels, config.seed)
    new = labels_of(reader.standing(read).values())
    stage.progress(1, 3, f"{len(places)} new labels")
    old = labels_of(reader.before(config.cursor, config.replay, config.seed))
    stage.progress(2, 3, f"{len(old)} older labels to replay")
    weighing = config.rater_cap, config.pair_share
    imported = reader.prompts(config.prompts)
    prompts = prompts_of(reader.recent(config.prompts), config.holdout, imported)
    asked = asked_in_holdout([*new, *old], prompts, config.holdout)
    prompts = only_on_their_side(prompts, asked)
    (fresh, held), (past, past_held) = (split(labels, asked, config.holdout) for labels in (new, old))
    chosen, unused = _learnt(fresh, past, config)
    train, weights = weigh_each(by_learner(chosen), *weighing)
    holdout, _ = weigh(drawn([*held, *past_held], MAX_HOLDOUT, config.seed), *weighing)
    write_labels(stage.path("train.parquet"), train)
    write_labels(stage.path("holdout.parquet"), holdout)
    write_prompts(stage.path("prompts.parquet"), prompts)
    held_out = sum(prompt.holdout for prompt in prompts)
    metrics = {
        "cursor": until,
        "labels_given": given,
        "new": len(new),
        "new_left_out": len(places) - len(read) + unused,
        "replayed": len(old),
        "asked_in_holdout": len(new) + len(old) - sum(map(len, (fresh, held, past, past_held))),
        "train": len(train),
        "holdout": len(holdout),
        "comparisons": sum(label.kind == "comparison" for label in [*train, *holdout]),
        "thumbs": sum(label.kind == "thumb" for label in [*train, *holdout]),
        "policy": for_policy(train),
        "raters": len({label.rater for label in [*train, *holdout]}),
        "prompts": len(prompts) - held_out,
        "holdout_prompts": held_out,
        "weights": weights.as_dict(),
    }
    reader.mark(given, until)
    write_json(stage.path("manifest.json"), {**metrics, "content": _content([*train, *holdout])})
    return metrics


def _learnt(new: Sequence[Label], old: Sequence[Label], config: Config) -> tuple[list[Label], int]:
    """No more than `max_labels`: half of the room is for either, and what one does not need for the other;
    and how many of the new are left out."""
    most = config.max_labels
    replayed = min(len(old), max(most // 2, most - len(new)))
    taken = drawn(new, most - replayed, config.seed)
    return [*taken, *drawn(old, replayed, config.seed)], len(new) - len(taken)


def _some(places: Sequence[Place], count: int, seed: int) -> Sequence[Place]:
    """At most `count` of them, evenly drawn, in their order."""
    if len(places) <= count:
        return places
    return [places[row] for row in sorted(random.Random(seed).sample(range(len(places)), count))]


def _content(labels: Sequence[Label]) -> str:
    return content_hash(
        [
            [label.messages, label.a, label.b, label.target, label.margin, label.weight, label.rater]
            for label in labels
        ]
    )


def for_policy(train: Sequence[Label]) -> dict[str, int]:
    """What `dpo` and `kto` can learn from: choices without ties and thumbs, none of them the judge's."""
    mine = [label for label in train if not for_judge(label)]
    thumbs = [label.target > 0.5 for label in mine if label.kind == "thumb"]
    return {
        "choices": sum(label.kind == "comparison" and label.target != 0.5 for label in mine),
        "up": sum(thumbs),
        "down": len(thumbs) - sum(thumbs),
    }


if __name__ == "__main__":
    run(Config, main)
