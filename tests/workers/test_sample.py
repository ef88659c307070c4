import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.fake_engine import BASE, half
from tests.servers import serving
from tests.workers.conftest import Sampled, SamplingEngine
from workers.labels import Prompt, read_samples, write_prompts
from workers.stage import StageError
from workers.stages import sample


def ask(text: str, holdout: bool = False) -> Prompt:
    return Prompt([{"role": "user", "content": text}], text, holdout)


@pytest.fixture
def prompts(tmp_path):
    write_prompts(tmp_path / "prompts.parquet", [ask("cats"), ask("dogs"), ask("rain", holdout=True)])
    return tmp_path / "prompts.parquet"


def run(stage, engine, prompts, name="s", **changes):
    config = {"engines": [engine.url], "model": "policy-v0", "adapter": None, "prompts": prompts, "count": 8}
    return stage(name, sample, **(config | {"k": 2, "max_tokens": 9} | changes))


def test_each_prompt_gets_k_replies_with_what_a_trainer_needs(stage, sampling_engine, prompts, tmp_path):
    metrics = run(stage, sampling_engine, prompts)
    rows = read_samples(tmp_path / "s" / "samples.parquet")
    assert [row.prompt_id for row in rows] == [0, 0, 1, 1]
    assert {row.messages[0]["content"] for row in rows} == {"cats", "dogs"}
    assert rows[0].token_ids[-1] == 2
    assert all(row.by_base for row in rows)
    assert rows[0].logprobs == [-1.0] * 3
    assert [row.finish_reason for row in rows[:2]] == ["stop", "length"]
    assert metrics["replies"] == 4
    assert metrics["cut"] == 0.5


def test_no_more_replies_are_asked_for_at_once_than_an_engine_has_places(stage, sampling_engine, tmp_path):
    sampling_engine.engine.pause = 0.05
    write_prompts(tmp_path / "many.parquet", [ask(f"cats {number}") for number in range(8)])
    run(stage, sampling_engine, tmp_path / "many.parquet", concurrency=7)
    assert sampling_engine.engine.most == 6, "a prompt's replies are asked for together"


def test_temperature_and_top_p_are_one_and_no_seed_is_sent(stage, sampling_engine, prompts):
    run(stage, sampling_engine, prompts)
    for body in sampling_engine.engine.requests:
        assert (body["temperature"], body["top_p"], body["max_tokens"], body["n"]) == (1.0, 1.0, 9, 2)
        assert "seed" not in body


def test_the_holdout_is_asked_only_when_it_is_wanted(stage, sampling_engine, prompts, tmp_path):
    run(stage, sampling_engine, prompts, holdout=True)
    assert {row.messages[0]["content"] for row in read_samples(tmp_path / "s" / "samples.parquet")} == {
        "rain"
    }


def test_an_adapter_is_loaded_once_and_a_missing_one_is_an_error(stage, sampling_engine, prompts, tmp_path):
    run(stage, sampling_engine, prompts, model="c-r1", adapter=tmp_path)
    run(stage, sampling_engine, prompts, name="again", model="c-r1", adapter=tmp_path)
    assert sampling_engine.engine.adapters == {"c-r1": str(tmp_path)}
    run(stage, sampling_engine, prompts, name="loaded", model="c-r1")
    for name in ("again", "loaded"):
        assert not any(row.by_base for row in read_samples(tmp_path / name / "samples.parquet"))
    with pytest.raises(StageError, match="does not have c-r2"):
        run(stage, sampling_engine, prompts, name="missing", model="c-r2")


def test_an_engine_that_takes_an_adapter_and_serves_the_base_is_an_error(
    stage, sampling_engine, prompts, tmp_path
):
    """Else its replies would be taken for the candidate's."""
    sampling_engine.engine.logprob["c-r1"] = sampling_engine.engine.logprob[BASE]
    for name in ("s", "again"):
        with pytest.raises(StageError, match="ignores the adapter"):
            run(stage, sampling_engine, prompts, name=name, model="c-r1", adapter=tmp_path)
        assert sampling_engine.engine.adapters == {}
    sampling_engine.engine.adapters["c-r1"] = "loaded before"
    with pytest.raises(StageError, match="ignores the adapter"):
        run(stage, sampling_engine, prompts, name="listed", model="c-r1")


def test_prompts_that_the_engine_refuses_are_left_out(stage, sampling_engine, tmp_path):
    path = tmp_path / "p.parquet"
    write_prompts(path, [ask("cats"), ask("too long")])
    assert run(stage, sampling_engine, path)["answered"] == 1
    write_prompts(path, [ask("too long")])
    with pytest.raises(StageError, match="no prompt"):
        run(stage, sampling_engine, path, name="none")


class RestartingEngine(SamplingEngine):
    """As a fresh process from its second request on, with no adapter; `downtime`: how often it is looked at
    before it is back from that.
    """

    downtime = 0
    away = False

    async def _models(self, request: Request) -> Response:
        if self.away:
            self.downtime -= 1
            self.away = self.downtime > 0
            return Response(status_code=503)
        return await super()._models(request)

    async def _chat(self, request: Request) -> Response:
        if len(self.requests) == 1:
            self.requests.append({})
            self.restart()
            self.away = self.downtime > 0
        if self.away:
            return StreamingResponse(half("a broken answer"), media_type="application/json")
        body = await request.json()
        if body["model"] != BASE and body["model"] not in self.adapters:
            return JSONResponse({"error": {"message": "does not exist"}}, 404)
        return await super()._chat(request)


@pytest.fixture
def restarting(monkeypatch):
    monkeypatch.setattr("workers.sampling.LOOK_EVERY", 0.01)
    engine = RestartingEngine()
    with serving(engine.app) as url:
        yield Sampled(url, engine)


@pytest.mark.parametrize("downtime", [0, 3])
@pytest.mark.parametrize("concurrency", [1, 128])
def test_an_engine_that_restarts_is_waited_for_and_gets_its_adapter_back(
    stage, restarting, prompts, tmp_path, concurrency, downtime
):
    restarting.engine.downtime = downtime
    metrics = run(stage, restarting, prompts, model="c-r1", adapter=tmp_path, concurrency=concurrency)
    assert (metrics["answered"], metrics["replies"]) == (2, 4)
    assert restarting.engine.adapters == {"c-r1": str(tmp_path)}


def test_an_engine_that_stays_away_is_an_error_that_says_what_to_do(stage, restarting, prompts, monkeypatch):
    monkeypatch.setattr("workers.sampling.RESTART", 0.1)
    restarting.engine.downtime = 10_000
    with pytest.RaisesGroup(pytest.RaisesExc(StageError, match="not come back .* start the job again")):
        run(stage, restarting, prompts, concurrency=1)
