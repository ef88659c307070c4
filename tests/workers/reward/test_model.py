import pytest
import torch

from workers.policy.model import trainable_hash
from workers.reward.model import RewardModel, Text, Texts, collate, forward, mean_states
from workers.reward.style import Head, Scale


def test_training_moves_the_active_member_only(tiny_model):
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("member-0", 4)
    model.add("member-1", 4)
    assert model.peft is not None
    trained = [name for name, parameter in model.peft.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("member-1" in name for name in trained)
    assert any("score" in name for name in trained)
    before = trainable_hash(model.peft)
    model.activate("member-0")
    assert trainable_hash(model.peft) != before


def test_frozen_layers_run_once_give_the_same_reward_as_all_layers_at_once(tiny_model):
    torch.manual_seed(0)
    ids = [Text([1, 5, 6, 7, 8], 3), Text([1, 5, 6, 9, 10, 11, 12, 2], 3)]
    rewards = []
    for upper in (1, 4):
        torch.manual_seed(0)
        model = RewardModel(tiny_model, 1.0, upper)
        features = model.features(ids)
        torch.manual_seed(0)
        model.add("m", 4)
        assert model.peft is not None
        head = model.peft.get_base_model().score
        torch.nn.init.constant_(head.modules_to_save["m"].weight[:, :8], 0.3)
        rewards.append(model.score(features, "m"))
    torch.testing.assert_close(rewards[0], rewards[1], rtol=0.05, atol=0.02)


def read_by(width: int) -> Head:
    """A head that reads states, and looks at nothing."""
    return Head(Scale([], []), [], torch.linspace(-1, 1, width).tolist())


@pytest.mark.parametrize("reads", [False, True])
def test_a_reply_is_worth_on_its_way_what_it_would_be_worth_if_it_ended_there(tiny_model, reads):
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2, early=0.25)
    model.add("m", 4)
    if reads:
        model.heads["m"] = read_by(model.features([Text([1, 5], 1)])[0].seen.shape[1])
    whole = [1, 5, 6, 7, 8, 9, 10]
    texts = [Text(whole[:end], 3) for end in range(3, len(whole) + 1)]
    alone = model.score(model.features(texts), "m")
    features = model.features([texts[-1], Text([1, 4, 6, 2], 3)], so_far=True)
    together = model.score_so_far(features, "m")
    torch.testing.assert_close(together[0], alone, rtol=0.02, atol=0.005)
    assert len(set(together[0].tolist())) > 1
    assert len(together[1]) == 2
    torch.testing.assert_close(model.whole(together, features, "m"), model.score(features, "m"))


def test_heads_read_an_early_layer_beside_the_last_one_below_the_adapters(tiny_model):
    text, states = Text([1, 5, 6, 7, 8], 3), {}
    for number in (1, 3):  # the frozen layers are all that a model of one layer more has below its adapter
        model = RewardModel(tiny_model, (number + 1) / 4, 1)
        states[number] = model.features([text])[0].states[2:]
    (both,) = RewardModel(tiny_model, 1.0, 1, early=0.25).features([text])
    normed = [
        view / view.square().mean(-1, keepdim=True).sqrt()
        for view in map(torch.Tensor.float, states.values())
    ]
    torch.testing.assert_close(both.seen, torch.cat([view.mean(0, keepdim=True) for view in normed], 1))
    (last,) = RewardModel(tiny_model, 1.0, 1, early=0.75).features([text])
    assert last.seen.shape[1] == 64, "the last one below the adapters is not read twice"


def test_what_a_head_reads_of_frozen_states_adds_to_what_the_adapter_says(tiny_model):
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("m", 4)
    features = model.features([Text([1, 5, 6, 7, 8], 3), Text([1, 5, 6, 9, 10, 11, 12, 2], 3)])
    adapted = model.score(features, "m")
    model.heads["m"] = head = read_by(features[0].seen.shape[1])
    read = mean_states(features) @ torch.tensor(head.states)
    torch.testing.assert_close(model.frozen_rewards(features, "m"), read)
    torch.testing.assert_close(model.score(features, "m"), adapted + read)
    assert read.std() > 0


def test_the_reward_sees_an_ending_though_padding_is_the_same_token(tiny_model):
    texts = Texts(tiny_model, 64, 64)
    messages = [{"role": "user", "content": "hi"}]
    ended, cut = (texts.of_reply(messages, "good cats", finish) for finish in ("stop", "length"))
    assert ended.ids == [*cut.ids, texts.tokenizer.eos_token_id]
    assert texts.tokenizer.pad_token_id == texts.tokenizer.eos_token_id
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("m", 4)
    one, other = model.score(model.features([ended, cut]), "m").tolist()
    assert one != other


def test_padding_changes_no_reward_and_an_empty_reply_has_one(tiny_model):
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("m", 4)
    short, long, empty = Text([1, 5, 6, 7], 2), Text([1, 5, 6, 7, 8, 9, 10, 11], 2), Text([1, 5], 2)
    features = model.features([short, long, empty])
    assert model.peft is not None
    model.peft.eval()
    with torch.no_grad():
        together = forward(model.peft, collate(features))
        alone = torch.cat([forward(model.peft, collate([row])) for row in features])
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, rtol=0.02, atol=1e-3)


def test_over_long_texts_are_cut_not_dropped(tiny_model):
    text = Texts(tiny_model, 3, 2).of_ids([1, 5, 6, 7, 8], [9, 10, 11, 2], "stop")
    assert text == Text([6, 7, 8, 9, 10], 3)
