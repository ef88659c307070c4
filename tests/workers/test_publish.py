from workers.stages.publish import as_expected

ROW = {"prompt_token_ids": [1, 2], "token_ids": [3], "logprobs": [-0.5]}


def test_the_trainers_probe_keeps_the_bases_log_probabilities_where_it_has_them():
    texts = {"token_ids": [[1, 2, 3]], "prompt_lengths": [2], "logprobs": [[-0.5]]}
    assert as_expected([{**ROW, "base_logprobs": [-1.0]}]) == {**texts, "base_logprobs": [[-1.0]]}
    assert as_expected([ROW]) == texts
