"""What earlier jobs left: a version's ancestors, replies to learn from once more, a candidate to go on from;
and the rounds of a job so far. No torch."""

from pathlib import Path
from typing import Any

from serving.registry import Registry
from workers.runner import FACTS
from workers.stage import DONE, METRICS, STAGE, read_json

MOST = 8  # earlier jobs
TRIES = 2  # jobs that may go on from one candidate and come to no verdict
SAMPLED = "samples.parquet"
CURVE = "curve.json"  # in the folder of an `optimise`: a list of {"step", "loss", …}


def lineage(registry: Registry, version: str) -> list[dict[str, Any]]:
    """The ancestors of a policy version and itself, oldest first: how far each is from the base, and by how
    much the members and the judge liked it better than its parent, where that was measured."""
    versions, found, name = registry.policies(), [], version
    while name in versions:
        metrics = versions[name].metrics
        rewards = metrics.get("rewards") or {}
        found.append(
            {
                "version": name,
                "kl": metrics.get("kl_base") if versions[name].path is not None else 0.0,
                "members": (rewards.get("members") or {}).get("gain"),
                "judge": (rewards.get("judge") or {}).get("gain"),
            }
        )
        name = versions[name].parent or ""
    return found[::-1]


def earlier_samples(registry: Registry, version: str, job: Path) -> list[str]:
    """The samples of the first rounds of earlier jobs that began with a policy version or one of its
    ancestors, or with a candidate to follow it, newest first: what it may learn from once more, by the
    importance of each token."""
    family = {entry["version"] for entry in lineage(registry, version)}
    found = []
    for earlier in _earlier(job):
        if read_json(earlier / FACTS).get("champion") in family:
            found += [str(done.with_name(SAMPLED)) for done in earlier.glob(f"*-sample-1/{DONE}")]
    return found[:MOST]


def undecided(champion: str, job: Path) -> dict[str, str] | None:
    """The candidate that the gate could not decide on, its name on the engines and its adapter's path in the
    home, if no other was judged since and the same version still answers. None where `TRIES` jobs sampled
    from it and came to no verdict: they failed, were cancelled, or could not move."""
    tries = 0
    for earlier in _earlier(job):
        done = next(earlier.glob(f"*-evaluate/{DONE}"), None)
        if done is None:
            went_on = read_json(earlier / FACTS).get("undecided") is not None
            tries += went_on and any(earlier.glob("*-sample-1"))
            continue
        told = read_json(done.with_name(STAGE))
        name, adapter = told["candidate"]["name"], Path(told["candidate"]["adapter"])
        path = Path("jobs", earlier.name, adapter.parent.name, adapter.name)
        usable = read_json(done.with_name(METRICS)).get("undecided") and (job.parent.parent / path).is_dir()
        if not usable or tries >= TRIES or told["champion"]["name"] != champion:
            return None
        return {"name": name, "path": str(path)}
    return None


def _earlier(job: Path) -> list[Path]:
    """The folders of earlier jobs, newest first."""
    facts = [path for path in job.parent.glob(f"*/{FACTS}") if path.parent != job]
    return [path.parent for path in sorted(facts, key=lambda path: path.stat().st_mtime, reverse=True)]


def curves(job: Path) -> list[str]:
    """The training curves of a job's rounds, in their order, where the optimiser left any."""
    return [str(path) for path in sorted(job.glob(f"*-optimise-*/{CURVE}"), key=_order)]


def rounds(job: Path) -> list[dict[str, Any]]:
    """For each round that has ended, the reward of its samples and how far the policy that wrote them was
    from the base: {"kl", "reward", "std"}."""
    found = []
    for scored in sorted(job.glob(f"*-score-*/{METRICS}"), key=_order):
        number = scored.parent.name.rpartition("-")[2]
        trained = next(iter(job.glob(f"*-optimise-{number}/{METRICS}")), None)
        if trained is None:
            continue
        score, optimised = read_json(scored), read_json(trained)
        found.append(
            {
                "kl": optimised.get("kl_base_before"),
                "reward": score.get("reward_mean"),
                "std": score.get("reward_std"),
            }
        )
    return found


def _order(path: Path) -> int:
    return int(path.parent.name.partition("-")[0])
