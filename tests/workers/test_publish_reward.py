import json
from pathlib import Path

import pytest
from redis import Redis

from serving.jobs import Jobs, Kind
from serving.registry import Registry
from tests.servers import ValkeyProcess
from workers.stages import publish_reward


def test_a_reward_model_goes_live_and_the_cursor_stays(
    valkey: ValkeyProcess, redis: Redis, stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("THUMBWHEEL_REDIS_URL", valkey.url)
    trained, jobs, registry = tmp_path / "trained", Jobs(redis), Registry(redis, tmp_path)
    (trained / "reward" / "plots").mkdir(parents=True)
    bins = [{"said": 0.4, "happened": 0.5, "count": 3}]
    (trained / "reward" / "plots" / "reliability.json").write_text(json.dumps(bins))
    (trained / "reward" / "reward.json").write_text("{}")
    (trained / "metrics.json").write_text(json.dumps({"accepted": True}))
    job = jobs.create(Kind.cycle, by="test")
    lease = jobs.acquire(job.id)
    assert lease is not None
    config = {"job": job.id, "token": lease.token, "trained": trained, "parent": None}
    assert stage("publish_reward", publish_reward, **config) == {"version": "reward-v1"}
    assert registry.aliases().reward == "reward-v1"
    folder = tmp_path / "artifacts" / "rewards" / "reward-v1"
    assert (folder / "reward.json").exists()
    assert {path.name for path in (folder / "plots").iterdir()} == {"reliability.json", "reliability.png"}
    assert registry.learning().cursor == "0-0", "its job moves it, when it is over"
