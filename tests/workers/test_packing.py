import pytest
import torch

from workers.frozen import lowest_trained
from workers.packing import IGNORED, Reply, enable, install, pack, plan, score_pack
from workers.policy.model import load_policy, read_lower

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
TEXTS = [
    Reply([1, 5, 6], [11, 12, 2]),
    Reply([1, 7], [15, 2]),
    Reply([1, 5, 6], [13, 2]),
    Reply([1, 5, 6], [14, 16, 17, 2]),
]

SYSTEM = [1, *range(3, 12)]
BEGUN_ALIKE = [Reply([*SYSTEM, *text.prompt], text.tokens) for text in TEXTS]


@pytest.fixture
def policy(moved_policy):
    return moved_policy()


def alone(model, text: Reply) -> torch.Tensor:
    """Log-probabilities of one reply, by transformers' own forward on it alone."""
    ids = torch.tensor([[*text.prompt, *text.tokens]])
    logprobs = model(input_ids=ids).logits[0].float().log_softmax(-1)
    first = len(text.prompt)
    return logprobs[torch.arange(first - 1, ids.shape[1] - 1), ids[0, first:]]


def gradient(model, value: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    value.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_rows_keep_the_replies_of_a_prompt_together_within_the_budget():
    assert plan(TEXTS, 100) == [[0, 2, 3, 1]]
    assert plan(TEXTS, 12) == [[0, 2, 3], [1]]
    assert plan(TEXTS, 9) == [[0, 2], [3], [1]]
    assert plan(TEXTS, 1) == [[0], [2], [3], [1]]


def test_a_shared_prompt_stands_in_a_row_once():
    row = pack(TEXTS, [0, 2, 1])
    assert row.ids.tolist() == [[1, 5, 6, 11, 12, 2, 13, 2, 1, 7, 15, 2]]
    assert row.positions.tolist() == [[0, 1, 2, 3, 4, 5, 3, 4, 0, 1, 2, 3]]
    assert row.target.tolist() == [11, 12, 2, 13, 2, 15, 2]
    assert row.reply.tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_what_all_prompts_of_a_row_begin_with_stands_in_it_once():
    row = pack(BEGUN_ALIKE, [0, 2, 1])
    assert row.ids.tolist() == [[*SYSTEM, 1, 5, 6, 11, 12, 2, 13, 2, 7, 15, 2]]
    assert row.positions.tolist() == [[*range(10), 10, 11, 12, 13, 14, 15, 13, 14, 11, 12, 13]]


@pytest.mark.parametrize(
    ("prompts", "common"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4]], 2),  # whose last token tells what comes next
        ([[1, 2], [3, 2]], 0),
        ([[1, 2, 3], [1, 2, 3]], 0),  # a shared prompt is shared already
    ],
)
def test_how_much_is_common_to_prompts(monkeypatch, prompts, common):
    monkeypatch.setattr("workers.packing.WORTH", 1)
    row = pack([Reply(prompt, [9]) for prompt in prompts], range(len(prompts)))
    assert row.parts[0] == ((*prompts[0][: common or len(prompts[0])],), common or len(prompts[0]))
    assert row.reply.tolist() == [*range(len(prompts))]
    for sequence, prompt in zip(row.unpack.tolist(), prompts, strict=True):
        assert row.ids[0, sequence[: len(prompt) + 1]].tolist() == [*prompt, 9]
        assert row.positions[0, sequence[: len(prompt) + 1]].tolist() == [*range(len(prompt) + 1)]


@pytest.mark.parametrize("texts", [TEXTS, BEGUN_ALIKE], ids=["apart", "begun alike"])
def test_a_reply_in_a_row_scores_as_it_does_alone_and_has_the_same_gradient(policy, texts):
    weights = torch.linspace(-1, 1, sum(len(text.tokens) for text in texts))
    expected = torch.cat([alone(policy, text) for text in texts])
    slope = gradient(policy, (expected * weights).sum())
    enable(policy.get_base_model())
    order = [0, 2, 3, 1]
    row = pack(texts, order)
    found = score_pack(policy.get_base_model(), row).logprobs
    found = torch.cat([found[row.reply == order.index(number)] for number in range(len(texts))])
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03)
    mine = gradient(policy, (found * weights).sum())
    assert torch.cosine_similarity(slope, mine, dim=0) > 0.99
    assert float(mine.norm() / slope.norm()) == pytest.approx(1, abs=0.05)


def test_a_row_of_several_chunks_scores_as_one_of_one_chunk(policy, monkeypatch):
    base = policy.get_base_model()
    enable(base)
    row = pack(TEXTS, range(4))
    whole = score_pack(base, row).logprobs
    slope = gradient(policy, whole.sum())
    monkeypatch.setattr("workers.packing.CPU_CHUNK", 3)
    assert len(whole) > 3 * 3
    parts = score_pack(base, row).logprobs
    torch.testing.assert_close(parts, whole, rtol=0.01, atol=0.01)
    torch.testing.assert_close(
        gradient(policy, parts.sum()), slope, rtol=0.02, atol=0.02 * float(slope.abs().max())
    )
    with torch.no_grad():
        torch.testing.assert_close(score_pack(base, row).logprobs, whole, rtol=0.01, atol=0.01)


def test_nothing_as_wide_as_the_vocabulary_is_kept_for_the_backward(policy):
    def kept(work) -> list[int]:
        widths = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: widths.append(tensor.shape[-1] if tensor.ndim else 1) or tensor,
            lambda tensor: tensor,
        ):
            work()
        return widths

    vocabulary, base = policy.config.vocab_size, policy.get_base_model()
    assert vocabulary in kept(lambda: alone(policy, TEXTS[0])), "transformers' own forward keeps it"
    enable(base)
    ours = kept(lambda: score_pack(base, pack(TEXTS, range(4))))
    assert ours
    assert vocabulary not in ours


def test_the_forward_that_trl_calls_scores_a_padded_batch_whatever_the_side(policy):
    expected = {number: alone(policy, TEXTS[number]) for number in (1, 2)}
    model = policy.get_base_model()
    install(model, 64)
    ids = torch.tensor([[1, 5, 6, 13, 2, 2], [2, 2, 1, 7, 15, 2]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]])
    labels = torch.tensor([[IGNORED] * 3 + [13, 2, IGNORED], [IGNORED] * 4 + [15, 2]])
    found = policy(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    torch.testing.assert_close(found.log_probs[0, 2:4], expected[2], rtol=0.03, atol=0.03)
    torch.testing.assert_close(found.log_probs[1, 3:5], expected[1], rtol=0.03, atol=0.03)
    assert found.log_probs[0, [0, 1, 4]].tolist() == [0.0] * 3
    assert found.log_probs[1, :3].tolist() == [0.0] * 3
    assert float(found.loss.detach()) == pytest.approx(
        -float(torch.cat([expected[2], expected[1]]).mean().detach()), abs=0.03
    )
    logits = policy(input_ids=torch.tensor([[1, 5, 6, 13, 2]])).logits[0, 2:4].float()
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(found.entropy[0, 2:4], entropy, rtol=0.03, atol=0.03)
    torch.testing.assert_close(found.mean_logits[0, 2:4], logits.mean(-1), rtol=0.03, atol=0.03)
    assert found.is_top1[0, 2:4].tolist() == (logits.argmax(-1) == torch.tensor([13, 2])).tolist()


def test_a_long_sequence_takes_the_other_attention_and_says_the_same(policy, monkeypatch):
    enable(policy.get_base_model())
    row = pack(TEXTS, [0, 2, 3, 1])
    short = score_pack(policy.get_base_model(), row).logprobs
    monkeypatch.setattr("workers.packing.SHORT", 1)
    torch.testing.assert_close(score_pack(policy.get_base_model(), row).logprobs, short, rtol=0.02, atol=0.02)


def test_what_is_no_packed_row_keeps_its_padding_mask(policy):
    ids, mask = torch.tensor([[2, 2, 1, 7, 15]]), torch.tensor([[0, 0, 1, 1, 1]])
    positions = torch.tensor([[0, 0, 0, 1, 2]])
    expected = policy(input_ids=ids[:, 2:]).logits[0, -1].float()
    enable(policy.get_base_model())
    found = policy(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0, -1].float()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_a_model_whose_logits_are_more_than_its_head_is_refused(policy):
    model = policy.get_base_model()
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="final_logit_softcapping"):
        enable(model)


def test_what_lies_below_the_adapters_reads_a_text_once_and_nothing_else_changes(tiny_model, moved_policy):
    model = moved_policy(top_layers=0.5)
    base = model.get_base_model()
    read = []
    base.model.layers[0].register_forward_hook(lambda *_: read.append(1))
    weights = torch.linspace(-1, 1, sum(len(text.tokens) for text in TEXTS))

    def scores(order: list[int]) -> torch.Tensor:
        row = pack(TEXTS, order)
        found = score_pack(base, row).logprobs
        return torch.cat([found[row.reply == order.index(number)] for number in range(len(TEXTS))])

    first = scores([0, 2, 3, 1])
    slope = gradient(model, (first * weights).sum())
    again = scores([1, 3, 0, 2])  # another row of the same texts
    assert len(read) == 1
    torch.testing.assert_close(again, first, rtol=0.02, atol=0.02)
    assert torch.cosine_similarity(gradient(model, (again * weights).sum()), slope, dim=0) > 0.99
    with model.disable_adapter():
        without = scores([0, 2, 3, 1])
    assert len(read) == 1
    expected = torch.cat([alone(load_policy(tiny_model, None, 4, TARGETS), text) for text in TEXTS])
    torch.testing.assert_close(without, expected, rtol=0.03, atol=0.03)
    assert not torch.allclose(without, first, atol=0.05)
    other = Reply(TEXTS[0].prompt, [11, 12, 13])
    score_pack(base, pack([TEXTS[0], other], [0, 1]))
    assert len(read) == 2
    torch.testing.assert_close(alone(model, TEXTS[0]), first[:3], rtol=0.03, atol=0.03)


def test_a_text_that_was_read_alone_is_known_in_a_row_that_shares_its_beginning(tiny_model, moved_policy):
    base = moved_policy(top_layers=0.5).get_base_model()
    read = []
    base.model.layers[0].register_forward_hook(lambda *_: read.append(1))
    for number in range(3):
        score_pack(base, pack(BEGUN_ALIKE, [number]))
    assert len(read) == 3
    row = pack(BEGUN_ALIKE, [0, 2, 1])
    found = score_pack(base, row).logprobs
    assert len(read) == 4  # for what they share
    again = score_pack(base, row).logprobs
    assert len(read) == 4
    torch.testing.assert_close(again, found, rtol=0.02, atol=0.02)
    score_pack(base, pack(BEGUN_ALIKE, [1], share=False))
    assert len(read) == 4  # all of its prompt is still there


def test_the_lower_layers_can_be_read_alone_and_need_not_run_again(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS, top_layers=0.5)
    base = model.get_base_model()
    first = lowest_trained(base, base.model.layers)
    read = {0: 0, first: 0}
    for number in read:

        def count(*_, number: int = number) -> None:
            read[number] += 1

        base.model.layers[number].register_forward_hook(count)
    found = read_lower(model, TEXTS, 12)
    assert read == {0: 2, first: 0}
    scores = {}
    for order in plan(TEXTS, 12):
        row = pack(TEXTS, order)
        logprobs = score_pack(base, row).logprobs
        scores |= {number: logprobs[row.reply == place] for place, number in enumerate(order)}
    assert read == {0: 2, first: 2}
    for number, text in enumerate(TEXTS):
        torch.testing.assert_close(scores[number], alone(model, text), rtol=0.03, atol=0.03)
        ids = torch.tensor([[*text.prompt, *text.tokens]])
        expected = base(input_ids=ids, output_hidden_states=True).hidden_states[first][0]
        begin = len(text.prompt) - 1
        torch.testing.assert_close(found[number], expected[begin:-1], rtol=0.05, atol=0.05)
    assert read_lower(load_policy(tiny_model, None, 4, TARGETS), TEXTS, 12) is None


def test_with_adapters_on_all_layers_nothing_can_be_kept(policy):
    base = policy.get_base_model()
    assert lowest_trained(base, base.model.layers) == 0
    assert not hasattr(base, "frozen_layers")


def test_with_a_trained_embedding_nothing_can_be_kept(tiny_model):
    base = load_policy(tiny_model, None, 4, TARGETS, top_layers=0.5).get_base_model()
    assert lowest_trained(base, base.model.layers) > 0
    base.get_input_embeddings().weight.requires_grad_(True)
    assert lowest_trained(base, base.model.layers) == 0


def test_states_are_kept_up_to_a_size(tiny_model, monkeypatch):
    monkeypatch.setattr("workers.frozen.MOST", 0)
    base = load_policy(tiny_model, None, 4, TARGETS, top_layers=0.5).get_base_model()
    read = []
    base.model.layers[0].register_forward_hook(lambda *_: read.append(1))
    first = score_pack(base, pack(TEXTS, [0, 2])).logprobs
    torch.testing.assert_close(score_pack(base, pack(TEXTS, [0, 2])).logprobs, first)
    assert len(read) == 2
