"""The reward of each sample: mean of the ensemble - λ · its standard deviation. samples.parquet →
scores.parquet.

python -m workers.stages.score DIR
"""

from pathlib import Path
from typing import Any

from workers.labels import Score, read_samples, write_scores
from workers.scoring import score_samples
from workers.stage import Stage, StageConfig, run


class Config(StageConfig):
    """`uncertainty`: λ ≥ 0, how much a reward that the members disagree on is marked down."""

    base_model: str
    reward: Path
    samples: Path
    uncertainty: float = 0.5


def main(config: Config, stage: Stage) -> dict[str, Any]:
    samples = read_samples(config.samples)
    stage.progress(0, len(samples), f"scoring {len(samples)} replies")
    members = score_samples(config.base_model, config.reward, None, samples)
    std = members.std(1, correction=0)
    reward = members.mean(1) - config.uncertainty * std
    scores = [Score(float(r), float(s), row) for r, s, row in zip(reward, std, members.tolist(), strict=True)]
    write_scores(stage.path("scores.parquet"), samples, scores)
    return {
        "replies": len(samples),
        "reward_mean": float(reward.mean()),
        "reward_std": float(reward.std(correction=0)),
        "disagreement": float(std.mean()),
    }


if __name__ == "__main__":
    run(Config, main)
