"""The reward of each sample: mean of the ensemble - λ · its standard deviation, and the other terms with
their weights (workers.terms). samples.parquet → scores.parquet.

python -m workers.stages.score DIR
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from feedback.types import content_hash
from workers.labels import Score, read_earlier, read_labels, read_prompts, read_samples, write_scores
from workers.reward.scoring import score_samples, score_so_far
from workers.rules import beside, combined, read_rules
from workers.stage import Stage, StageConfig, run
from workers.terms import Weights, describe, reward_terms, weighted_sum


class Config(StageConfig):
    """`names`: the adapters in `reward` that score; None, or a reward version without them: the members of
    the ensemble. `uncertainty`: λ ≥ 0, how much a reward that the members disagree on is marked down.
    `earlier`: samples of the rounds before, newest first, of which `replay` are scored beside; figures are of
    the others. `prompts`, `holdout`: the snapshot's prompts and held-out labels; what is asked in the holdout
    is not replayed. `so_far`: also of replies on their way, for the credit of single tokens. `rules`: rule
    scores of these samples, if a judge gave any. The weights are those of workers.terms."""

    base_model: str
    reward: Path
    samples: Path
    earlier: tuple[Path, ...] = ()
    replay: int = 0
    prompts: Path | None = None
    holdout: Path | None = None
    names: list[str] | None = None
    uncertainty: float = 0.5
    model_weight: float = 1.0
    length_weight: float = 0.0
    repetition_weight: float = 0.0
    rule_weight: float = 0.0
    so_far: bool = False
    rules: Path | None = None


def main(config: Config, stage: Stage) -> dict[str, Any]:
    samples = read_samples(config.samples)
    fresh = len(samples)
    if config.earlier and config.replay:
        after = 1 + max(sample.prompt_id for sample in samples)
        samples += read_earlier(config.earlier, after, config.replay, measured_on(config))
    stage.progress(0, len(samples), f"scoring {len(samples)} replies")
    names = config.names if _has(config.reward, config.names or []) else None
    given = config.base_model, config.reward, names, samples
    so_far: list[Tensor] | None = None
    if config.so_far:
        members, so_far = score_so_far(*given)
    else:
        members = score_samples(*given)
    std = members.std(1, correction=0)
    model = (members.mean(1) - config.uncertainty * std).tolist()
    rules = read_rules(config.rules) if config.rules else []
    weights = Weights(
        model=config.model_weight,
        length=config.length_weight,
        repetition=config.repetition_weight,
        rules=config.rule_weight,
    )
    terms = reward_terms(samples, model, combined(samples, rules))
    reward = weighted_sum(terms, weights)
    rows = zip(reward.tolist(), std.tolist(), members.tolist(), strict=True)
    scores = [
        Score(
            *row,
            terms={name: float(values[number]) for name, values in terms.items()},
            so_far=so_far[number].tolist() if so_far else [],
        )
        for number, row in enumerate(rows)
    ]
    write_scores(stage.path("scores.parquet"), samples, scores)
    return {
        "replies": fresh,
        "earlier": len(samples) - fresh,
        "names": names,
        "reward_mean": float(reward[:fresh].mean()),
        "reward_std": float(reward[:fresh].std()),
        "disagreement": float(std[:fresh].mean()),
        **describe(samples[:fresh], {name: values[:fresh] for name, values in terms.items()}, weights),
        "rules": beside(samples, model, rules),
    }


def measured_on(config: Config) -> set[str]:
    """The hashes of the messages that this job measures on. What an earlier one learnt from may be among
    them, as somebody may have asked it in a held-out conversation since."""
    asked = []
    if config.prompts is not None:
        asked += [prompt.messages for prompt in read_prompts(config.prompts, holdout=True)]
    if config.holdout is not None:
        asked += [label.messages for label in read_labels(config.holdout)]
    return {content_hash(messages) for messages in asked}


def _has(reward: Path, names: list[str]) -> bool:
    """A version from before there was a `warm` average has its members only."""
    return all((reward / name).is_dir() for name in names)


if __name__ == "__main__":
    run(Config, main)
