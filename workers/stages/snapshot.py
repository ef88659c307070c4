"""Feedback since the cursor and a replay sample of what came before → train, holdout and prompts. No torch.

What it costs depends on what is new and on `replay`, not on how much was ever said. Labels come with
weights, so that no rater rules what is learnt, nor what is measured on (workers.weights).

    python -m workers.stages.snapshot DIR

Where Redis is, it reads from the environment, as every process does: an address can hold a password.
"""

from collections.abc import Sequence
from typing import Any

from feedback.reader import FeedbackReader
from feedback.redis import connect
from feedback.stats import Stats
from feedback.types import content_hash
from workers.datasets import is_held_out, labels_of, prompts_of
from workers.labels import Label, newest, write_labels, write_prompts
from workers.settings import WorkerSettings
from workers.stage import Stage, StageConfig, run, write_json
from workers.weights import weigh

MAX_HOLDOUT = 512  # newest held-out labels that are measured on: enough to tell, and bounded


class Config(StageConfig):
    """`cursor`: what has been learnt from already; `replay`: labels of that past to mix in, at most;
    `holdout`: share of conversations that is only measured on; `prompts`: newest completions to take prompts
    from, and as many imported prompts; `rater_cap` and `pair_share`: as in workers.weights."""

    cursor: str
    replay: int
    holdout: float
    prompts: int
    seed: int
    rater_cap: float = 0.02
    pair_share: float = 0.5


def main(config: Config, stage: Stage) -> dict[str, Any]:
    redis = connect(WorkerSettings().redis_url)
    reader = FeedbackReader(redis)
    given = Stats(redis).labels()
    until = reader.cursor()
    new = labels_of(reader.since(config.cursor, until))
    stage.progress(1, 3, f"{len(new)} new labels")
    old = labels_of(reader.before(config.cursor, config.replay, config.seed))
    stage.progress(2, 3, f"{len(old)} older labels to replay")
    train, holdout = _split([*new, *old], config.holdout)
    train, weights = weigh(train, config.rater_cap, config.pair_share)
    holdout, _ = weigh(newest(holdout, MAX_HOLDOUT), config.rater_cap, config.pair_share)
    imported = reader.prompts(config.prompts)
    prompts = prompts_of(reader.recent(config.prompts), config.holdout, imported)
    write_labels(stage.path("train.parquet"), train)
    write_labels(stage.path("holdout.parquet"), holdout)
    write_prompts(stage.path("prompts.parquet"), prompts)
    held_out = sum(prompt.holdout for prompt in prompts)
    metrics = {
        "cursor": until,
        "labels_given": given,
        "new": len(new),
        "replayed": len(old),
        "train": len(train),
        "holdout": len(holdout),
        "comparisons": sum(label.kind == "comparison" for label in [*train, *holdout]),
        "thumbs": sum(label.kind == "thumb" for label in [*train, *holdout]),
        "raters": len({label.rater for label in [*train, *holdout]}),
        "prompts": len(prompts) - held_out,
        "holdout_prompts": held_out,
        "weights": weights.as_dict(),
    }
    reader.mark(given, until)
    write_json(stage.path("manifest.json"), {**metrics, "content": _content([*train, *holdout])})
    return metrics


def _split(labels: Sequence[Label], share: float) -> tuple[list[Label], list[Label]]:
    held_out = [is_held_out(label.conversation, share) for label in labels]
    train = [label for label, held in zip(labels, held_out, strict=True) if not held]
    return train, [label for label, held in zip(labels, held_out, strict=True) if held]


def _content(labels: Sequence[Label]) -> str:
    return content_hash(
        [
            [label.messages, label.a, label.b, label.target, label.margin, label.weight, label.rater]
            for label in labels
        ]
    )


if __name__ == "__main__":
    run(Config, main)
