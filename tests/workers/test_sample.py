import pytest

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
    assert rows[0].logprobs == [-1.0] * 3
    assert [row.finish_reason for row in rows[:2]] == ["stop", "length"]
    assert metrics["replies"] == 4
    assert metrics["cut"] == 0.5


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
    with pytest.raises(StageError, match="does not have c-r2"):
        run(stage, sampling_engine, prompts, name="missing", model="c-r2")


def test_prompts_that_the_engine_refuses_are_left_out(stage, sampling_engine, tmp_path):
    path = tmp_path / "p.parquet"
    write_prompts(path, [ask("cats"), ask("too long")])
    assert run(stage, sampling_engine, path)["answered"] == 1
    write_prompts(path, [ask("too long")])
    with pytest.raises(StageError, match="no prompt"):
        run(stage, sampling_engine, path, name="none")
