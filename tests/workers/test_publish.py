from pathlib import Path

from workers.artifacts import install
from workers.stages.publish import Config, as_expected, parts

ROW = {"prompt_token_ids": [1, 2], "token_ids": [3], "logprobs": [-0.5]}


def test_the_trainers_probe_keeps_the_bases_log_probabilities_where_it_has_them():
    texts = {"token_ids": [[1, 2, 3]], "prompt_lengths": [2], "logprobs": [[-0.5]]}
    assert as_expected([{**ROW, "base_logprobs": [-1.0]}]) == {**texts, "base_logprobs": [[-1.0]]}
    assert as_expected([ROW]) == texts


def test_a_versions_folder_holds_the_adapter_and_the_plots_where_there_are_some(tmp_path):
    adapter, plots = tmp_path / "adapter", tmp_path / "plots"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")

    def config(drawn: Path | None) -> Config:
        given = {"job": "j", "token": 1, "probe": tmp_path, "parent": "policy-v0", "reward": None}
        return Config(**given, adapter=adapter, evaluation={}, plots=drawn)

    assert parts(config(None)) == parts(config(plots)) == [adapter / "adapter_config.json"]
    plots.mkdir()
    (plots / "reward.png").write_bytes(b"")
    install(parts(config(plots)), tmp_path / "policy-v1", {})
    assert (tmp_path / "policy-v1" / "plots" / "reward.png").exists()
