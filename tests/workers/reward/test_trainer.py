from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.workers.test_train_reward import labels
from workers import objectives
from workers.labels import Label
from workers.policy.model import trainable_hash
from workers.reward.model import Features, RewardModel, Texts, mean_states, running_mean
from workers.reward.style import NAMES, Scale, Told, best_spread
from workers.reward.style import fit as fit_style
from workers.reward.thumb_scale import ThumbScale
from workers.reward.thumbs import Thumbs
from workers.reward.trainer import (
    LabelTrainer,
    Training,
    batches,
    fit,
    fit_heads,
    label_batch,
    label_features,
    label_losses,
)
from workers.stage import StageError

TRAINING = Training(
    learning_rate=5e-3,
    epochs=2.0,
    min_steps=1,
    batch=8,
    smoothing=0.05,
    shrink=0.03,
    seed=0,
)


def with_rater(rater: str, row: Label) -> Label:
    return Label(**{**vars(row), "rater": rater})


def without_offsets(thumbs: Thumbs, r: torch.Tensor, y: torch.Tensor, raters: torch.Tensor, smoothing: float):
    return objectives.thumb_logistic(r, y, thumbs.a, thumbs.b, 0.0 * thumbs.u[raters], smoothing)


def fit_anew(tiny_model, folder, rows, prepare=lambda model: None, **training):
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("member-0", 8)
    prepare(model)
    texts = Texts(tiny_model, 64, 64)
    features = label_features(model, texts, rows)
    given = replace(TRAINING, **training)
    return fit(model, rows, features, ThumbScale(), given, folder, texts.tokenizer)


def learnt_gap(tiny_model, folder, rows, **training) -> float:
    """By how much what wins is better to a member that learnt from `rows`, comparisons alone, on average."""
    trained = []
    fit_anew(tiny_model, folder, rows, trained.append, epochs=4.0, learning_rate=1e-2, **training)
    (model,) = trained
    features = label_features(model, Texts(tiny_model, 64, 64), rows)
    first, second = (model.score([pair[side] for pair in features], "member-0") for side in (0, 1))
    return float(((first - second) * torch.tensor([2 * row.target - 1 for row in rows])).mean())


def choices(**more) -> list[Label]:
    return [replace(row, **more) for row in labels(48, seed=1) if row.kind == "comparison"]


def seen(rows: list[Label]) -> list[tuple[Features, ...]]:
    """Looks that tell which of two replies was chosen, as far as chance lets them."""
    dice = torch.Generator().manual_seed(0)

    def reply(good: float) -> Features:
        return Features(torch.zeros(3, 1), 2, (torch.randn(len(NAMES), generator=dice) + good).tolist())

    return [(reply(2 * row.target - 1), reply(1 - 2 * row.target)) for row in rows]


def test_label_losses_pair_each_comparison_with_its_own_second_reply(tiny_model):
    rows = [labels(4, seed=5)[number] for number in (1, 0, 3, 2)]
    model = RewardModel(tiny_model, 1.0, 2)
    texts = Texts(tiny_model, 64, 64)
    features = label_features(model, texts, rows)
    assert [len(pair) for pair in features] == [2, 1, 2, 1]
    thumbs = Thumbs([""], ThumbScale(2.0, 0.5))
    batch = label_batch(rows, features) | {"rater": thumbs.raters(rows)}
    rewards = torch.tensor([1.0, 5.0, 2.0, -5.0, 0.25, 0.5])  # a of each label, then b of the comparisons
    losses = label_losses(rewards, batch, thumbs, smoothing=0.0)
    logits = torch.tensor([0.75, 10.5, 1.5, -9.5])
    target = torch.tensor([row.target for row in rows])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(losses.detach(), expected)


def test_by_how_much_one_is_better_is_asked_of_the_loss_in_the_direction_that_won():
    """m of eq. 2 of arXiv 2307.09288, which a tie has not."""
    rows = [Label("comparison", [], "x", "y", target, margin=0.75) for target in (1.0, 0.0, 0.5)]
    features = [(Features(torch.zeros(3, 1), 2), Features(torch.zeros(3, 1), 2)) for _ in rows]
    batch = label_batch(rows, features) | {"rater": torch.zeros(3, dtype=torch.long)}
    rewards = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    losses = label_losses(rewards, batch, Thumbs([""], ThumbScale()), smoothing=0.0)
    logits, target = torch.tensor([0.25, 1.75, 1.0]), torch.tensor([1.0, 0.0, 0.5])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(losses.detach(), expected)


@pytest.mark.slow
def test_what_is_better_by_more_comes_to_lie_further_apart(tiny_model, tmp_path):
    plain = learnt_gap(tiny_model, tmp_path / "plain", choices())
    strong = learnt_gap(tiny_model, tmp_path / "strong", choices(margin=1.0))
    assert strong > plain + 0.3
    assert plain > 0


def test_what_looks_better_by_more_comes_to_look_further_apart():
    def gap(margin: float) -> float:
        rows = choices(margin=margin)
        features = seen(rows)
        scale = Scale.of([reply.style for replies in features for reply in replies])
        (head,) = fit_heads(rows, features, scale, TRAINING)
        first, second = (head([pair[side].style for pair in features]) for side in (0, 1))
        return float(((first - second) * [2 * row.target - 1 for row in rows]).mean())

    assert gap(1.0) > gap(0.0) + 0.5
    assert gap(0.0) > 0


@pytest.mark.parametrize("taste", [True, False])
def test_a_taste_that_no_looks_show_is_read_from_the_states(taste):
    """Of 8 numbers the third is what raters like, or none is."""
    dice = torch.Generator().manual_seed(1)
    told = labels(200, seed=1)

    def reply() -> Features:
        states = torch.randn(4, 8, generator=dice) + torch.randn(8, generator=dice)
        return Features(states, 2, [0.0] * len(NAMES), running_mean([states[1:]])[-1:])

    features = [tuple(reply() for _ in range(2 if label.kind == "comparison" else 1)) for label in told]
    liked = [[float(mean_states([reply])[0, 2]) for reply in pair] for pair in features]
    if taste:
        told = [
            replace(label, target=float(mine[0] > (mine[1] if len(mine) == 2 else 0)))
            for label, mine in zip(told, liked, strict=True)
        ]
    (head,) = fit_heads(told, features, Scale.of([[0.0] * len(NAMES)] * 2), TRAINING)
    sizes = np.abs(head.states)
    if taste:
        assert sizes.argmax() == 2
        assert sizes[2] > 3 * np.delete(sizes, 2).max()
    else:
        assert sizes.max() < 0.5


@pytest.mark.slow
def test_the_more_raters_are_taken_to_err_the_less_far_apart_replies_come_to_lie(tiny_model, tmp_path):
    sure = learnt_gap(tiny_model, tmp_path / "sure", choices(), smoothing=0.0)
    wary = learnt_gap(tiny_model, tmp_path / "wary", choices(), smoothing=0.6)
    assert 0 < wary < 0.6 * sure


def test_batches_are_passes_over_all_labels_of_like_length():
    rows = labels(100, seed=1)
    features = [(Features(torch.zeros(3 + number % 50, 1), 2),) for number in range(100)]
    found = batches(rows, features, TRAINING)
    assert len(found) == 26
    for start in (0, 13):
        assert sorted(row for batch in found[start : start + 13] for row in batch) == list(range(100))
    assert found[:13] != found[13:]
    spread = [max(row % 50 for row in batch) - min(row % 50 for row in batch) for batch in found]
    assert sum(spread) / len(spread) < 20, "of random ones: 39"
    assert found == batches(rows, features, TRAINING), "the same when a job is taken up again"


def test_few_labels_are_passed_over_more_often():
    features = [(Features(torch.zeros(3, 1), 2),) for _ in range(10)]
    few = Training(**{**vars(TRAINING), "min_steps": 7})
    assert [len(batch) for batch in batches(labels(10, seed=1), features, few)].count(8) == 4
    assert len(batches(labels(10, seed=1), features, few)) == 7
    assert len(batches(labels(10, seed=1), features, TRAINING)) == 4


@pytest.mark.slow
def test_members_believe_some_labels_more_and_a_single_judge_all_alike():
    told = labels(64, seed=1)
    dice = torch.Generator().manual_seed(0)
    features = [
        tuple(
            Features(torch.zeros(3, 1), 2, torch.randn(len(NAMES), generator=dice).tolist())
            for _ in range(2 if label.kind == "comparison" else 1)
        )
        for label in told
    ]
    scale = Scale.of([reply.style for replies in features for reply in replies])
    pair = [label.kind == "comparison" for label in told]
    alike = Told(
        a=scale([replies[0].style for replies in features]),
        b=scale([replies[-1].style for replies in features]) * [[float(one)] for one in pair],
        target=0.025 + 0.95 * np.array([label.target for label in told]),
        weight=np.array([label.weight for label in told]),
        pair=np.array(pair, dtype=float),
        lead=np.array([label.margin * (2 * label.target - 1) for label in told]) * pair,
        rater=np.unique([label.rater for label in told], return_inverse=True)[1],
        raters=len({label.rater for label in told}),
    )
    spread = best_spread([(alike, [label.conversation for label in told])], TRAINING.seed)
    expected = spread * fit_style(replace(alike, a=spread * alike.a, b=spread * alike.b), 1.0).weights
    judge, *members = (
        head.weights for count in (1, 3) for head in fit_heads(told, features, scale, TRAINING, count)
    )
    assert judge == pytest.approx(expected)
    for one in members:
        assert one != pytest.approx(judge, rel=0.01)
    assert members[0] != pytest.approx(members[1], rel=0.01)
    assert np.mean(members, 0) == pytest.approx(judge), "together they make of the labels what can be made"


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_lenient_rater_is_not_taken_for_good_replies(tiny_model, tmp_path, monkeypatch, known):
    """Ann likes all that she gets, and she got what is bad; Bob likes half of what is good and nothing else.
    Were it not `known` who said what, what is bad would seem liked better."""
    honest = [row for row in labels(160, seed=1) if row.kind == "thumb"]
    good, bad = ([row for row in honest if row.target == side] for side in (1.0, 0.0))
    bob = [with_rater("bob", replace(row, target=float(n % 2))) for n, row in enumerate(good)]
    bob += [with_rater("bob", row) for row in bad[:10]]
    ann = [with_rater("ann", replace(row, target=1.0)) for row in bad[10:]]
    rows = [*bob, *ann]
    if not known:
        monkeypatch.setattr(Thumbs, "loss", without_offsets)
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("member-0", 8)
    texts = Texts(tiny_model, 64, 64)
    training = Training(**{**vars(TRAINING), "epochs": 4.0})
    before = trainable_hash(model.peft)
    _, scale = fit(
        model, rows, label_features(model, texts, rows), ThumbScale(), training, tmp_path, texts.tokenizer
    )
    assert scale.a > 0
    assert trainable_hash(model.peft) != before
    assert not hasattr(model.peft, "thumbs"), "nothing of it is left in the model"
    kind_words, bad_words = (
        texts.of_reply([{"role": "user", "content": "hi"}], words, "stop")
        for words in ("good nice", "bad rude")
    )
    kind, rude = model.score(model.features([kind_words, bad_words]), "member-0").tolist()
    assert (kind > rude) is known


def test_a_step_whose_loss_is_no_number_is_an_error(tiny_model, tmp_path, monkeypatch):
    """Its gradient may be one, so that nothing else shows it; a trainer reports the other steps' mean."""
    extra, compute = iter([0.0, float("nan")]), LabelTrainer.compute_loss
    monkeypatch.setattr(
        LabelTrainer, "compute_loss", lambda *given, **named: compute(*given, **named) + next(extra, 0.0)
    )
    with pytest.raises(StageError, match="loss is not finite"):
        fit_anew(tiny_model, tmp_path, labels(64, seed=1))


def test_a_member_that_is_no_number_is_an_error(tiny_model, tmp_path):
    """After the last step no loss tells."""

    def broken(model: RewardModel) -> None:
        trained = next(parameter for parameter in model.peft.parameters() if parameter.requires_grad)
        trained.register_hook(lambda gradient: gradient * float("nan"))

    with pytest.raises(StageError, match="is not finite after training"):
        fit_anew(tiny_model, tmp_path, labels(8, seed=1), broken, epochs=1.0)


def test_a_member_that_training_left_as_it_was_is_an_error(tiny_model, tmp_path):
    with pytest.raises(StageError, match="no-op"):
        fit_anew(tiny_model, tmp_path, labels(8, seed=1), epochs=1.0, learning_rate=0.0)


def test_thumbs_are_trained_beside_the_adapter(tiny_model, tmp_path):
    """From a start that is wrong on purpose: what fits at the start is not where training ends."""
    rows = [with_rater("ann", row) for row in labels(64, seed=1)]
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("member-0", 8)
    texts = Texts(tiny_model, 64, 64)
    features = label_features(model, texts, rows)
    start = Thumbs(["ann"], ThumbScale())
    start.fit(rows, model.score([pair[0] for pair in features], "member-0"), TRAINING.smoothing)
    model.activate("member-0")
    _, scale = fit(model, rows, features, ThumbScale(), TRAINING, tmp_path, texts.tokenizer)
    assert scale.a != pytest.approx(float(start.a.detach()), abs=1e-3)
