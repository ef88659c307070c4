import json
import math
import random
import re
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from workers.datasets import for_judge
from workers.device import precision
from workers.labels import Label, Sample, Score, read_labels, read_scores, write_labels, write_scores
from workers.methods import round as round_
from workers.methods.config import Config
from workers.methods.single import kto_weights
from workers.packing import Reply, install
from workers.policy import trainers
from workers.policy.data import Tokens, best_of, rollouts, well_rated
from workers.policy.model import (
    assert_trainable,
    base_logprobs,
    load_policy,
    read_base,
    reply_logprobs,
    trainable_hash,
)
from workers.policy.trainers import Distance, KeepNear, Plain, further, occurrences, turns
from workers.references import read_references
from workers.settings import WorkerSettings
from workers.stage import Stage, StageError
from workers.stages import optimise

KIND, UNKIND, END = [11, 12, 13, 14], [15, 16, 17, 18], 2
KIND_WORDS, UNKIND_WORDS = "good nice lovely thanks".split(), "bad dull rude grim".split()
HI = [{"role": "user", "content": "hi"}]
ON_SAMPLES, ON_LABELS = ["rloo", "grpo", "online_dpo", "best_of_n"], ["dpo", "kto"]
PROMPT = [1, 21, 3, 2, 1, 22]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
SHORT_STEPS = 3e-3  # at 1e-2 what comes out hangs on how numbers are rounded


@pytest.fixture
def scored(tiny_model, tmp_path):
    """Replies of the base itself, half of kind words and half of unkind, rewarded for kindness."""

    def make(reward=lambda kind: 1.0 if kind else -1.0, prompts=8, k=4):
        dice = random.Random(0)
        model = load_policy(tiny_model, None, 4, TARGETS)
        samples, scores = [], []
        for prompt in range(prompts):
            for number in range(k):
                kind = number % 2 == 0
                reply = [*dice.choices(KIND if kind else UNKIND, k=dice.randint(1, 4)), END]
                messages = [{"role": "user", "content": "hi"}]
                samples.append(Sample(prompt, messages, "…", [*PROMPT, 5 + prompt % 5], reply, [], "stop"))
                scores.append(Score(reward(kind), 0.0, [reward(kind)]))
        old = base_logprobs(
            model, [row.prompt_token_ids for row in samples], [row.token_ids for row in samples], 256
        )
        samples = [
            Sample(**{**vars(row), "logprobs": logps.tolist()})
            for row, logps in zip(samples, old, strict=True)
        ]
        write_scores(tmp_path / "scores.parquet", samples, scores)
        return tmp_path / "scores.parquet"

    return make


@pytest.fixture
def rated(tmp_path):
    """What people said of kind and of unkind replies; `right`: how often they like the kind ones."""

    def make(right=1.0, count=48):
        dice = random.Random(3)
        labels = []
        for number in range(count):
            kind, unkind = (" ".join(dice.choices(words, k=2)) for words in (KIND_WORDS, UNKIND_WORDS))
            likes = dice.random() < right
            if number % 2:
                target = 1.0 if likes else 0.0
                labels.append(Label("comparison", [{"role": "user", "content": "hi"}], kind, unkind, target))
            else:
                text, up = (kind, likes) if number % 4 else (unkind, not likes)
                labels.append(Label("thumb", [{"role": "user", "content": "hi"}], text, None, float(up)))
        labels = [Label(**{**vars(row), "conversation": f"c{n}"}) for n, row in enumerate(labels)]
        write_labels(tmp_path / "train.parquet", labels)
        return tmp_path / "train.parquet"

    return make


@pytest.fixture
def run(stage, tiny_model, tmp_path):
    def run(name, method, scores, init=None, **changes):
        config = {"base_model": tiny_model, "init": init, "method": method, "scores": scores, "rank": 4}
        config |= {"learning_rate": 1e-2, "beta": 0.1, "epochs": 2, "batch": 8}
        config |= {"max_kl_step": 99, "max_kl_base": 99, "max_nll_rise": 99, "reach": 0.0}
        config |= {"credit_decay": 1.0, "epsilon": 0.2, "top_layers": 1.0}
        config |= {"targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}
        return stage(name, optimise, **(config | changes)), tmp_path / name

    return run


def written(folder) -> list[str]:
    """What is in the adapter's folder. PEFT would put another adapter, as TRL's "ref", in one within."""
    return sorted(path.name for path in (folder / "adapter").iterdir())


def kindness(tiny_model: str, adapter=None) -> float:
    """log p(kind words first) - log p(unkind words first) after the prompt."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=precision())
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([[*PROMPT, 5]])).logits[0, -1].float().log_softmax(-1)
    return float(logps[KIND].logsumexp(0) - logps[UNKIND].logsumexp(0))


@pytest.mark.parametrize("method", ON_SAMPLES)
def test_it_moves_the_policy_to_what_is_rewarded_and_peft_can_load_it(method, run, scored, tiny_model):
    metrics, folder = run("o", method, scored(), epochs=8 if method == "best_of_n" else 2)
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model) + 0.5
    assert metrics["trainable"] > 0
    assert metrics["hash_before"] != metrics["hash_after"]
    assert metrics["steps"] > 1
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == sorted(TARGETS)
    assert config["modules_to_save"] is None
    assert not config["use_dora"]


@pytest.mark.parametrize("method", ["online_dpo", "best_of_n"])
def test_the_last_batch_is_no_smaller_than_the_others(method, run, scored, monkeypatch):
    sizes, plain = [], trainers.WithAsides.training_step

    def told(self, model, inputs, *given):
        sizes.append(len(inputs["input_ids"]))
        return plain(self, model, inputs, *given)

    monkeypatch.setattr(trainers.WithAsides, "training_step", told)
    # Nine prompts: of as many pairs four are a batch of eight replies, of as many best replies eight are.
    run("o", method, scored(prompts=9), pairs=1, epochs=1)
    assert sizes == ([6, 6, 6] if method == "online_dpo" else [4, 5])


def test_even_batches_take_every_row_once_an_epoch_and_differ_by_one_row_at_most():
    for count in range(1, 40):
        batches = list(trainers.EvenBatches(range(count), 8))
        assert [row for batch in batches for row in batch] == list(range(count))
        assert len(batches) == math.ceil(count / 8)
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
def test_it_tells_which_step_it_makes(run, scored, monkeypatch):
    told = []
    monkeypatch.setattr(Stage, "progress", lambda _, done, total, words: told.append((done / total, words)))
    given = {"epochs": 1, "credit_decay": 0.5, "plain_weight": 1.0}
    metrics, _ = run("o", "grpo", scored(), **given)
    shares, words = zip(*told, strict=True)
    assert list(shares) == sorted(shares)
    assert "grpo on 32 replies: reading 32 of 32 replies" in words
    assert "grpo on 32 replies: restoring plain texts and going on, turn 1 of 2" in words
    assert [line for line in words if "step" in line] == [
        f"grpo on 32 replies: step {step} of {metrics['steps']}" for step in range(2, metrics["steps"] + 1)
    ]


@pytest.mark.parametrize("method", ON_LABELS)
def test_it_moves_the_policy_to_what_people_like(method, run, scored, rated, tiny_model):
    metrics, folder = run("o", method, scored(lambda kind: 0.0), labels=rated(), epochs=3)
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model) + 0.5
    assert metrics["pairs" if method == "dpo" else "thumbs"] > 8


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_the_advantage_dealt_out_to_single_tokens_moves_it_too(method, run, scored, tiny_model):
    whole, _ = run("whole", method, scored())
    metrics, folder = run("dealt", method, scored(), credit_decay=0.5, epochs=8, learning_rate=SHORT_STEPS)
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model) + 0.5
    assert whole["credit"] == 0.0
    assert metrics["credit"] > 0.1
    assert not metrics["credit_scores"], "these scores are from before replies were scored on their way"


@pytest.mark.slow
def test_credit_is_dealt_out_by_what_the_reward_model_makes_of_a_reply_on_its_way(run, scored):
    """Rewards that nothing in the replies tells of; a reward model knows them once it saw the first token."""
    dice, path = random.Random(1), scored()
    samples = [row for row, _ in read_scores(path)]
    rewards = [dice.gauss(0, 1) for _ in samples]
    told = [[0.0] + [reward] * len(row.token_ids) for row, reward in zip(samples, rewards, strict=True)]
    scores = [Score(reward, 0.0, [reward], so_far=row) for reward, row in zip(rewards, told, strict=True)]
    write_scores(path, samples, scores)
    metrics, _ = run("scored", "grpo", path, credit_decay=0.5)
    without, _ = run("without", "grpo", path, credit_decay=0.5, credit_scores=False)
    assert metrics["credit_scores"]
    assert metrics["credit"] > 0.2
    assert without["credit"] < 0.1


@pytest.mark.slow
def test_what_the_engines_said_of_the_base_is_not_asked_again(run, scored, tiny_model, tmp_path, monkeypatch):
    """Of the samples that are watched it is, and of all that another policy sampled."""
    asked = []
    ask = round_.base_logprobs
    monkeypatch.setattr(round_, "base_logprobs", lambda *given: asked.append(given[1]) or ask(*given))
    monkeypatch.setattr(round_, "read_base", lambda *given: asked.append(given[1]) or read_base(*given))
    scores, half = scored(), {"credit_decay": 0.5, "top_layers": 0.5, "watched": 4}
    metrics, folder = run("o", "grpo", scores, **half)
    assert [len(texts) for texts in asked if len(texts) in (4, 32)] == [4]
    assert metrics["kl_base_before"] == pytest.approx(0, abs=1e-6)
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model) + 0.5
    asked.clear()
    run("again", "grpo", scores, init=folder / "adapter", **half)
    assert [len(texts) for texts in asked if len(texts) in (4, 28)] == [4, 28]
    asked.clear()
    rows = [(replace(sample, by_base=sample.prompt_id < 4), score) for sample, score in read_scores(scores)]
    write_scores(scores, *zip(*rows, strict=True))
    run("replayed", "grpo", scores, init=folder / "adapter", **half)
    assert [len(texts) for texts in asked if len(texts) in (4, 14)] == [4, 14], "what the base wrote it knows"
    asked.clear()
    rows = [(replace(sample, by_base=False, fresh=sample.prompt_id < 4), score) for sample, score in rows]
    write_scores(scores, *zip(*rows, strict=True))
    run("left", "grpo", scores, **half)
    assert [len(texts) for texts in asked if len(texts) in (4, 16)] == [4, 16], "a candidate was gone on from"
    asked.clear()
    scores = scored()
    run("pairs", "online_dpo", scores, people=0, watched=4)
    assert [len(texts) for texts in asked if len(texts) > 1] == [4, len(read_references())]


@pytest.mark.slow
def test_a_policy_without_an_adapter_is_as_far_as_it_is_measured_to_be(run, scored, monkeypatch):
    found = []

    def both(work: round_.Round) -> Distance:
        found.append((before(work), work.distance()))
        return found[-1][0]

    before = round_.Round.distance_before
    monkeypatch.setattr(round_.Round, "distance_before", both)
    _, folder = run("first", "grpo", scored())
    run("second", "grpo", scored(), init=folder / "adapter")
    for told, measured in found:
        assert asdict(told) == pytest.approx(asdict(measured), abs=1e-6)
    assert found[1][0].base > found[0][0].base + 0.01


@pytest.mark.slow
def test_a_first_adapter_is_on_what_the_engines_of_deploy_up_wrap(run, scored):
    given = Config.model_fields
    _, folder = run(
        "o", "grpo", scored(), targets=given["targets"].default, top_layers=given["top_layers"].default
    )
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["o_proj"] == list(WorkerSettings().optimise_targets)
    assert config["layers_to_transform"] == [2, 3]


def test_each_method_has_a_pace_of_its_own_until_told_otherwise(tmp_path):
    def pace(**given):
        return Config(base_model="m", init=None, scores=tmp_path, **given).pace

    assert pace(method="grpo").learning_rate < pace(method="dpo").learning_rate
    assert pace(method="grpo", learning_rate=0.5) == replace(pace(method="grpo"), learning_rate=0.5)
    assert pace(method="rloo", beta=0.0).beta == 0.0
    with pytest.raises(ValueError, match="dpo learns nothing at β = 0"):
        pace(method="dpo", beta=0.0)


def test_the_base_is_read_before_each_token_and_of_each_token(scored, tiny_model):
    """A state one token off would give another distribution for the token."""
    samples = [sample for sample, _ in read_scores(scored())][:4]
    replies = [Reply(row.prompt_token_ids, row.token_ids) for row in samples]
    model = load_policy(tiny_model, None, 4, TARGETS)
    expected = base_logprobs(model, [row.prompt for row in replies], [row.tokens for row in replies], 256)
    head = model.get_output_embeddings().weight.float()
    for reply, logprobs, (found, states) in zip(
        replies, expected, read_base(model, replies, 256), strict=True
    ):
        assert torch.allclose(found, logprobs)
        said = (states.float() @ head.T).log_softmax(-1)
        assert torch.allclose(said[range(len(reply.tokens)), reply.tokens], logprobs, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo", "online_dpo"])
def test_the_same_rewards_turned_round_move_it_the_other_way(method, run, scored, tiny_model):
    _, folder = run("o", method, scored(lambda kind: -1.0 if kind else 1.0))
    assert kindness(tiny_model, folder / "adapter") < kindness(tiny_model) - 0.5


@pytest.mark.parametrize("method", ON_SAMPLES)
def test_random_rewards_move_it_nowhere_in_particular(method, run, scored, tiny_model):
    dice = random.Random(7)
    _, right = run("right", method, scored())
    _, folder = run("o", method, scored(lambda kind: dice.gauss(0, 1)))
    base = kindness(tiny_model)
    moved = kindness(tiny_model, right / "adapter") - base
    assert abs(kindness(tiny_model, folder / "adapter") - base) < 0.5 * moved


@pytest.mark.parametrize("method", ON_LABELS)
def test_labels_at_random_move_it_nowhere_in_particular(method, run, scored, rated, tiny_model):
    base = kindness(tiny_model)
    scores = scored(lambda kind: 0.0)
    _, right = run("right", method, scores, labels=rated(), epochs=3, learning_rate=SHORT_STEPS)
    at_random = rated(right=0.5, count=144)
    _, folder = run("o", method, scores, labels=at_random, epochs=1, learning_rate=SHORT_STEPS)
    moved = kindness(tiny_model, right / "adapter") - base
    assert abs(kindness(tiny_model, folder / "adapter") - base) < 0.5 * moved


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_ratios_are_to_the_policy_that_sampled(method, run, scored, tiny_model, tmp_path):
    """Kind replies that the engines call far less likely: their ratio is clipped, so they teach nothing."""
    _, folder = run("o", method, scored())
    rows = read_scores(tmp_path / "scores.parquet")
    samples = [
        Sample(**{**vars(sample), "logprobs": [logprob - 2 for logprob in sample.logprobs]})
        if score.reward > 0
        else sample
        for sample, score in rows
    ]
    write_scores(tmp_path / "scores.parquet", samples, [score for _, score in rows])
    _, clipped = run("clipped", method, tmp_path / "scores.parquet")
    assert kindness(tiny_model, clipped / "adapter") < kindness(tiny_model, folder / "adapter") - 0.2


@pytest.mark.slow
def test_how_far_it_went_is_measured_on_the_replies_of_the_policy_that_is_updated(run, scored, tmp_path):
    """Half of the replies are an ancestor's, which found them far less likely."""
    rows = read_scores(scored())
    samples = [
        replace(sample, logprobs=[logprob - 2 for logprob in sample.logprobs], fresh=False)
        if sample.prompt_id % 2
        else sample
        for sample, _ in rows
    ]
    write_scores(tmp_path / "scores.parquet", samples, [score for _, score in rows])
    metrics, _ = run("o", "grpo", tmp_path / "scores.parquet", learning_rate=1e-6, reach=0.0)
    assert metrics["earlier"] == len(rows) // 2
    assert metrics["kl_base_before"] == pytest.approx(0.0, abs=0.02)
    assert metrics["kl_step"] == pytest.approx(0.0, abs=0.02)


@pytest.mark.slow
def test_held_on_plain_texts_it_keeps_the_reference_texts_and_learns_all_the_same(run, scored, tiny_model):
    free, far = run("free", "grpo", scored(), epochs=6)
    held, near = run("held", "grpo", scored(), epochs=6, plain_weight=5.0)
    assert abs(free["nll_rise"]) > 0.001
    assert abs(held["nll_rise"]) < 0.5 * abs(free["nll_rise"])
    assert kindness(tiny_model, near / "adapter") > kindness(tiny_model) + 0.5
    assert kindness(tiny_model, far / "adapter") > kindness(tiny_model) + 0.5


def test_a_policy_that_has_not_moved_loses_nothing_on_plain_texts_and_one_that_has_does(tiny_model):
    """Of replies of all lengths: a log-probability beside the wrong token would show."""
    replies = [Reply([5, 6, 7, 8][:n], [*range(9, 9 + n)]) for n in (1, 4, 2, 3)]
    model = load_policy(tiny_model, None, 4, TARGETS)
    base = base_logprobs(model, [row.prompt for row in replies], [row.tokens for row in replies], 256)
    install(model.get_base_model(), 256)
    still = Plain(replies, base, 1.0, 4, 0, seed=0)
    assert float(still.loss(model).detach()) < 1e-4
    off = Plain(replies, [row + 0.5 for row in base], 2.0, 4, 0, seed=0)
    assert float(off.loss(model).detach()) == pytest.approx(0.25, abs=1e-2)
    swapped = Plain(replies, [row.flip(0) for row in base], 1.0, 4, 0, seed=0)
    assert float(swapped.loss(model).detach()) > 1e-3


def test_all_have_their_turn_before_one_comes_again():
    found = turns(5, 2, seed=0)
    order = [row for _ in range(5) for row in next(found)]
    assert sorted(order[:5]) == sorted(order[5:]) == [0, 1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("method", [*ON_SAMPLES, *ON_LABELS])
def test_every_method_can_be_held_on_plain_texts(method, run, scored, rated, tiny_model):
    far, free = run("free", method, scored(), labels=rated(), epochs=3)
    near, held = run("held", method, scored(), labels=rated(), epochs=3, plain_weight=1000.0)
    assert near["hash_after"] != far["hash_after"]
    base = kindness(tiny_model)
    apart = [abs(kindness(tiny_model, folder / "adapter") - base) for folder in (held, free)]
    assert apart[0] < apart[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", [*ON_SAMPLES, *ON_LABELS])
def test_a_share_of_what_people_rated_well_is_learnt_by_each_method(method, run, scored, rated, tiny_model):
    """Scores pay for unkind replies: one that learns from the best of kind ones has these already."""
    scores, labels = scored(lambda kind: -1.0 if kind else 1.0), rated()
    plain, without = run("plain", method, scores, labels=labels, epochs=4)
    shared, with_it = run("shared", method, scores, labels=labels, epochs=4, sft_weight=1.0)
    assert "rated" not in plain
    assert shared["rated"] > 12
    tokens = Tokens(AutoTokenizer.from_pretrained(tiny_model))
    replies = well_rated(read_labels(labels), tokens, 0)
    prompts, texts = [reply.prompt for reply in replies], [reply.tokens for reply in replies]

    def likely(adapter) -> float:
        model = load_policy(tiny_model, adapter / "adapter", 4, TARGETS)
        return float(torch.cat(reply_logprobs(model, prompts, texts, 256)).mean())

    assert likely(with_it) > likely(without) + 0.05


@pytest.mark.slow
def test_the_preferred_reply_becomes_likelier_where_its_own_likelihood_counts(run, scored, tiny_model):
    scores = scored()
    data = rollouts(read_scores(scores))
    best = [data.samples[row] for row in best_of(data)]
    prompts, texts = [row.prompt_token_ids for row in best], [row.token_ids for row in best]

    def likely(adapter) -> float:
        model = load_policy(tiny_model, adapter / "adapter", 4, TARGETS)
        return float(torch.cat(reply_logprobs(model, prompts, texts, 256)).mean())

    _, without = run("without", "online_dpo", scores, epochs=4, chosen_weight=0.0)
    _, with_it = run("with", "online_dpo", scores, epochs=4, chosen_weight=2.0)
    assert likely(with_it) > likely(without) + 0.05
    assert kindness(tiny_model, with_it / "adapter") > kindness(tiny_model) + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["kl_step", "kl_base", "nll_rise"])
def test_a_round_that_leaves_a_bound_is_cut_short_and_gone_back(run, scored, tiny_model, figure):
    scores = scored()
    free, _ = run("free", "online_dpo", scores, epochs=4, check_every=2)
    bound = free[figure] / 4
    held, folder = run("held", "online_dpo", scores, epochs=4, check_every=2, **{f"max_{figure}": bound})
    assert not free["cut_short"]
    assert held["cut_short"]
    assert held["steps"] < free["steps"]
    assert 0 < held[figure] <= bound
    curve = json.loads((folder / "curve.json").read_text())
    assert curve[-1]["kl" if figure == "kl_base" else figure] == pytest.approx(held[figure])
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model)


@pytest.mark.slow
def test_a_bound_that_no_step_keeps_holds_the_policy_where_it_is(run, scored, tiny_model):
    metrics, folder = run("o", "online_dpo", scored(), max_kl_base=0.0)
    assert "even a small step leaves the bounds" in metrics["held"]
    assert metrics["hash_before"] == metrics["hash_after"]
    assert kindness(tiny_model, folder / "adapter") == pytest.approx(kindness(tiny_model), abs=0.01)


@pytest.mark.slow
def test_a_policy_that_begins_outside_a_bound_may_stay_there(run, scored):
    scores = scored()
    first, folder = run("first", "online_dpo", scores)
    again, _ = run("again", "online_dpo", scores, init=folder / "adapter", max_kl_base=first["kl_base"] / 2)
    assert first["held"] is None
    assert again["kl_base"] <= first["kl_base"] * 1.05


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_short_steps_are_gone_on_with_as_far_as_the_reach(method, run, scored, tiny_model):
    scores = scored()
    short, near = run("short", method, scores, learning_rate=2.5e-4)
    assert short["stretched"] == 1
    bound = 8 * short["kl_step"]
    long, far = run("long", method, scores, learning_rate=2.5e-4, max_kl_step=bound, reach=0.5)
    assert long["stretched"] == pytest.approx(2, abs=0.3)
    assert long["kl_step"] == pytest.approx(bound / 2, rel=0.5)
    assert long["steps"] == short["steps"]
    base = kindness(tiny_model)
    assert kindness(tiny_model, far / "adapter") - base > 1.5 * (
        kindness(tiny_model, near / "adapter") - base
    )
    enough, _ = run("enough", method, scores, learning_rate=2.5e-4, max_kl_step=bound, reach=0.1)
    assert enough["stretched"] == 1


@pytest.mark.slow
def test_nobody_goes_on_out_of_a_bound(run, scored):
    scores = scored()
    short, _ = run("short", "grpo", scores, learning_rate=2.5e-4)
    bounds = {"max_kl_step": 8 * short["kl_step"], "max_kl_base": 2 * short["kl_base"]}
    held, _ = run("held", "grpo", scores, learning_rate=2.5e-4, reach=1.0, **bounds)
    assert 1 < held["stretched"] < 2
    assert not held["cut_short"]
    assert short["kl_base"] < held["kl_base"] <= bounds["max_kl_base"]


def test_a_policy_goes_back_to_where_its_bounds_are_expected():
    model = torch.nn.Linear(1, 1)
    ways = []

    def measure() -> Distance:
        """A KL that grows with the square of the way, and one that is no number far out."""
        way = float(model.weight.detach()) / 8
        ways.append(way)
        return Distance(way**2 if way < 2 else float("nan"), 0.0, 0.0)

    def end(first: float, last: float) -> KeepNear:
        ways.clear()
        with torch.no_grad():
            model.weight.fill_(8 * first)
        near = KeepNear(model, measure, measure(), Distance(0.25, 1.0, 1.0), every=1)
        with torch.no_grad():
            model.weight.fill_(8 * last)
        near.on_step_end(None, SimpleNamespace(global_step=1, max_steps=2), SimpleNamespace())
        assert near.cut
        return near

    end(0.0, 0.6)
    assert ways == pytest.approx([0.0, 0.6, 0.95 * 0.5])
    end(0.4, 0.6)  # the way from where it was within
    assert ways == pytest.approx([0.4, 0.6, 0.4 + 0.95 * 0.1])
    end(0.0, 4.0)
    assert ways[:3] == [0.0, 4.0, 4.0 / 64], "where nothing is known, it goes back by the most"
    near = end(0.5, 0.5 + 1e-3)
    assert ways[-1] > 0.5
    assert float(model.weight.detach()) == 4.0, "and no way at all, where none is within"
    assert near.measured[-1][1] == near.measured[0][1]


def test_where_a_bound_is_met_is_told_by_a_parabola_through_where_the_line_began():
    begin, near, far = (Distance(0.0, 0.0, 2 * way**2 - way) for way in (0.0, 1.0, 3.0))
    share = near.share_to(far, Distance(9.0, 9.0, 6.0), (-0.5, begin))
    assert 1 + 2 * share == pytest.approx(2.0)
    assert near.share_to(far, Distance(9.0, 9.0, 6.0), None) == pytest.approx(5 / 14)
    assert near.share_to(far, Distance(9.0, 9.0, 15.0), None) == 1.0
    for odd in (float("nan"), float("inf")):
        assert near.share_to(Distance(odd, 0.0, 0.0), Distance(9.0, 9.0, 6.0), (-0.5, begin)) == 0.0


def test_restoring_is_told_whether_a_step_came_in_between():
    told, model = [], torch.nn.Linear(1, 1)

    def restore(again: bool, share: float) -> None:
        told.append((again, round(share, 3)))

    rises = iter([0.2, 0.0, 0.0, *[0.0] * 9])  # out at step 3, restored, at step 6, …
    near = KeepNear(
        model,
        lambda: Distance(0.0, 0.0, next(rises)),
        Distance(0.0, 0.0, 0.0),
        Distance(1.0, 1.0, 0.1),
        every=3,
        restore=restore,
        restores=2,
    )
    for step in (3, 6):
        near.on_step_end(None, SimpleNamespace(global_step=step, max_steps=6), SimpleNamespace())
    assert told == [(False, 0.75), (False, 0.0), (True, 0.0)], "half of the bound of 0.1 may stay lost"
    assert not near.cut


@pytest.mark.slow
def test_texts_are_restored_before_a_round_is_cut_and_at_its_end(run, scored, monkeypatch):
    """Those by which it is measured: what others do for them, a model of random weights does not tell."""
    monkeypatch.setattr(optimise, "read_plain", read_references)
    scores = scored()
    free, folder = run("free", "grpo", scores, epochs=6, plain_weight=1e-6, restores=0)
    # A bound that is left for the first time, by little: where so few steps end is a matter of rounding.
    rises = [row.get("nll_rise", 0.0) for row in json.loads((folder / "curve.json").read_text())]
    left = next((rise for rise in rises if rise > 0.01), None)
    assert left is not None, "nothing became less likely, so nothing could be restored"
    tight = {"plain_weight": 1e-6, "max_nll_rise": 0.95 * left, "epochs": 6}
    cut, _ = run("cut", "grpo", scores, **tight, restores=0)
    held, _ = run("held", "grpo", scores, **tight, restores=2)
    assert cut["cut_short"]
    assert held["steps"] > cut["steps"]
    assert held["nll_rise"] <= tight["max_nll_rise"]
    assert free["nll_rise"] > 0
    bound = 0.7 * max(rises)  # is left on the way; half of it may stay lost
    ended, _ = run("ended", "grpo", scores, epochs=6, plain_weight=1e-6, restores=2, max_nll_rise=bound)
    assert not ended["cut_short"]
    assert abs(ended["nll_rise"]) < 0.7 * free["nll_rise"]
    assert ended["kl_base"] > 0


@pytest.fixture
def near():
    """`near(rises, …)`: a KeepNear on one weight, whose KL is the square of it; and that weight. `rises`: the
    plain texts' as they are measured one after the other, 0 after that; the first is where it begins."""

    def make(rises=(), begun=0.0, **given) -> tuple[KeepNear, torch.Tensor]:
        model, left = torch.nn.Linear(1, 1, bias=False), iter(rises)
        weight = next(model.parameters()).detach()
        weight.fill_(begun)

        def measure() -> Distance:
            return Distance(float(weight) ** 2, 0.0, next(left, 0.0))

        return KeepNear(model, measure, measure(), Distance(1.0, 1.0, 1.0), every=1, **given), weight

    return make


def at(step: int, of: int) -> tuple:
    """What a callback is given: arguments, state and control."""
    state = SimpleNamespace(global_step=step, max_steps=of)
    return SimpleNamespace(learning_rate=0.5), state, SimpleNamespace()


def test_steps_that_go_ahead_are_shortened_and_those_after_them_slowed(near):
    keep, weight = near(reach=0.64)  # a way of 0.8, of which a fourth is due by the first of four steps
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    for step, gone, left, slowed in [
        (1, 0.4, 0.2, 0.5),
        (2, 0.3, 0.3, 0.5),
        (3, 0.62, 0.62, 0.5),  # ahead by too little to matter
        (4, 1.6, 0.8, 0.25),  # out of the bound, until it is shortened
    ]:
        keep.on_step_begin(*at(step - 1, 4), optimizer=optimizer)
        weight.fill_(gone)
        keep.on_step_end(*at(step, 4))
        assert float(weight) == pytest.approx(left)
        assert keep.slowed == pytest.approx(slowed)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25), "of 0.5, in the last step"
    assert not keep.cut


@pytest.mark.parametrize(("reach", "gone"), [(0.0, 0.4), (0.64, math.nan), (0.64, math.inf)])
def test_nothing_is_shortened_without_a_reach_or_where_the_way_is_no_number(reach, gone, near, monkeypatch):
    monkeypatch.setattr(trainers, "assert_finite", lambda model: None)
    keep, weight = near(reach=reach)
    weight.fill_(gone)
    keep.on_step_end(*at(1, 4))
    assert keep.slowed == 1
    assert keep.cut == (gone != 0.4)
    assert float(weight) == pytest.approx(0.0 if keep.cut else 0.4)


@pytest.mark.parametrize(("after", "there"), [(0.2, 0.25), (0.9, 0.5)])
def test_a_round_that_begins_near_the_plain_bound_has_texts_restored_first(after, there, near):
    """Unless that makes them less likely."""
    keep, weight = near([0.8, after], begun=0.5, restore=lambda again, share: weight.mul_(0.5), restores=1)
    keep.on_train_begin(*at(0, 2))
    assert float(weight) == there
    weight.add_(0.25)
    keep.on_step_end(*at(1, 2))
    assert float(weight) == there + 0.25
    assert not keep.cut


def test_a_round_that_began_outside_is_held_to_where_texts_were_restored_to(near):
    keep, weight = near([1.5, 0.4, 1.2, 1.2, 0.9], restore=lambda again, share: None, restores=1)
    keep.on_train_begin(*at(0, 2))
    weight.fill_(0.5)
    keep.on_step_end(*at(1, 2))
    assert keep.cut, "1.2 is out of the bound of 1 again"
    assert keep.measured[-1][1].plain == 0.9


def test_a_round_with_room_left_restores_no_texts_first(near):
    keep, weight = near([0.4], restore=lambda again, share: weight.fill_(9.0), restores=1)
    keep.on_train_begin(*at(0, 2))
    assert float(weight) == 0.0


def test_restored_texts_alone_are_no_other_policy(near):
    """Where no step stays, the policy is what it was, to the bit."""
    rises = [0.8, 0.2, *[9.0] * 20]
    keep, weight = near(rises, begun=0.5, restore=lambda again, share: weight.mul_(0.5), restores=1)
    keep.on_train_begin(*at(0, 2))
    weight.add_(0.25)
    keep.on_step_end(*at(1, 2))
    assert keep.cut
    assert float(weight) == 0.5
    assert keep.measured[-1] == (1, keep.measured[0][1])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_a_learning_rate_that_is_too_high_ends_no_round_early(method, run, scored, tiny_model):
    scores = scored()
    hasty = {"learning_rate": 2e-2, "check_every": 1}
    free, _ = run("free", method, scores, **hasty)
    bound = free["kl_step"] / 16
    cut, _ = run("cut", method, scores, **hasty, max_kl_step=bound)
    assert cut["cut_short"]
    paced, folder = run("paced", method, scores, **hasty, max_kl_step=bound, reach=0.8)
    assert not paced["cut_short"]
    assert paced["steps"] == free["steps"] > cut["steps"]
    assert paced["slowed"] < 0.7
    assert 0.4 * bound < paced["kl_step"] <= bound
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model) + 0.1


@pytest.mark.slow
def test_random_rewards_lead_nowhere_in_particular_however_far(run, scored, tiny_model):
    dice, scores = random.Random(7), scored()
    right, folder = run("right", "grpo", scores)
    base = kindness(tiny_model)
    moved = kindness(tiny_model, folder / "adapter") - base
    scores = scored(lambda kind: dice.gauss(0, 1))
    metrics, folder = run("o", "grpo", scores, learning_rate=1e-3, max_kl_step=right["kl_step"], reach=1.0)
    assert metrics["stretched"] > 1
    assert abs(kindness(tiny_model, folder / "adapter") - base) < 0.5 * moved


def test_further_is_by_the_root_of_the_kl():
    assert further(0.01, 0.04, 2) == pytest.approx(2)
    assert further(0.01, 0.16, 4) == pytest.approx(2)
    assert further(0.04, 0.04, 2) == further(0.05, 0.04, 2) == further(0.0, 0.0, 2) == 1
    assert further(-0.001, 0.0, 2) == 1
    assert further(-0.001, 0.04, 2) == further(0.0001, 0.04, 2) == 4


def test_what_was_restored_is_gone_on_with_by_a_shorter_way():
    ways = []

    def ended(restores: int) -> list[float]:
        model = torch.nn.Linear(1, 1)
        ways.clear()

        def measure() -> Distance:
            way = float(model.weight.detach())
            ways.append(way)
            return Distance(0.01 * way**2, 0.0, 0.0)

        with torch.no_grad():
            model.weight.zero_()
        bound = Distance(1.0, 1.0, 1.0)
        near = KeepNear(model, measure, measure(), bound, 1, 0.16, lambda again, share: None, restores)
        with torch.no_grad():
            model.weight.fill_(1.0)
        near.on_step_end(None, SimpleNamespace(global_step=1, max_steps=1), SimpleNamespace())
        return ways

    assert ended(0) == pytest.approx([0.0, 1.0, 4.0])
    assert ended(1) == pytest.approx([0.0, 1.0, 1.0, 2.0])


@pytest.mark.slow
def test_what_the_judge_learns_from_is_not_for_the_policy(run, scored, tmp_path):
    rows = [Label("comparison", HI, "good", "bad", 1.0, conversation=f"c{n}") for n in range(30)]
    write_labels(tmp_path / "t.parquet", rows)
    metrics, _ = run("o", "dpo", scored(), labels=tmp_path / "t.parquet")
    assert metrics["pairs"] == sum(not for_judge(row) for row in rows)
    assert 0 < metrics["pairs"] < 30


def test_peoples_pairs_are_enough_where_all_rewards_are_the_same(run, scored, rated):
    metrics, _ = run("o", "online_dpo", scored(lambda kind: 1.0), labels=rated(), people=8)
    assert (metrics["pairs"], metrics["people"]) == (0, 8)


@pytest.mark.slow
def test_kto_leaves_no_thumb_out_where_batches_do_not_divide(run, scored, tmp_path):
    rows = [
        Label("thumb", HI, "good" if n else "bad", None, float(n > 0), conversation="c1") for n in range(9)
    ]
    assert not for_judge(rows[0])
    write_labels(tmp_path / "t.parquet", rows)
    metrics, _ = run("o", "kto", scored(), labels=tmp_path / "t.parquet", epochs=1)
    assert (metrics["thumbs"], metrics["thumbs_up"]) == (16, 8)
    assert metrics["steps"] == 2


def test_thumbs_of_one_kind_alone_and_no_comparison_are_errors(run, scored, tmp_path):
    labels = [Label("thumb", HI, "good", None, 1.0, conversation="c1")] * 4
    write_labels(tmp_path / "ups.parquet", labels)
    scores = scored()
    with pytest.raises(StageError, match="4 up and 0 down"):
        run("kto", "kto", scores, labels=tmp_path / "ups.parquet")
    with pytest.raises(StageError, match="comparisons"):
        run("dpo", "dpo", scores, labels=tmp_path / "ups.parquet")


def test_adapters_on_the_upper_layers_alone(run, scored, tiny_model):
    _, folder = run("o", "online_dpo", scored(), top_layers=0.5)
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {name.split(".layers.")[1].split(".")[0] for name in weights} == {"2", "3"}
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model)


def dpo_loss(rows, log_ratios: list[torch.Tensor]) -> torch.Tensor:
    """-log s(β (log π/π_ref of the chosen - that of the rejected)) at β = 0.5."""
    chosen, rejected = log_ratios
    return -torch.nn.functional.logsigmoid(0.5 * (chosen - rejected))


def kto_loss(rows, log_ratios: list[torch.Tensor]) -> torch.Tensor:
    """Eq. 7 and 8 of arXiv 2402.01306 at β = 0.5; z_0 is the mean of the mismatched replies."""
    up = torch.tensor([row["label"] for row in rows])
    given, z_0 = log_ratios[0], log_ratios[1].mean().clamp(min=0)
    weights = kto_weights(int(up.sum()), int((~up).sum()))
    return torch.where(up, *weights) * (1 - torch.sigmoid(0.5 * torch.where(up, given - z_0, z_0 - given)))


@pytest.mark.parametrize(
    ("method", "texts", "references", "loss"),
    [
        ("online_dpo", ("chosen_ids", "rejected_ids"), ("ref_chosen_logps", "ref_rejected_logps"), dpo_loss),
        pytest.param(
            *("dpo", ("chosen_ids", "rejected_ids"), ("ref_chosen_logps", "ref_rejected_logps"), dpo_loss),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("kto", ("completion_ids", "KL_completion_ids"), ("ref_logps", "ref_KL_logps"), kto_loss),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["online_dpo", "dpo", "kto"],
)
def test_whoever_goes_on_from_an_adapter_is_held_to_the_base_and_not_to_a_copy_of_it(
    method, texts, references, loss, run, scored, rated, tiny_model, moved_policy, tmp_path, monkeypatch
):
    """To the copy that TRL makes all log ratios would be 0 at first, and the loss as at β = 0."""
    moved_policy(0.5).save_pretrained(str(tmp_path / "moved"))
    found, make = [], optimise.METHODS[method]
    monkeypatch.setitem(optimise.METHODS, method, lambda work: found.append(make(work)) or found[0])
    given = {"labels": rated(count=24), "epochs": 1, "batch": 256, "beta": 0.5}
    metrics, folder = run("o", method, scored(prompts=4), init=tmp_path / "moved", **given)
    ((trainer, _),) = found
    rows, policy = list(trainer.train_dataset), load_policy(tiny_model, tmp_path / "moved", 4, TARGETS)
    log_ratios = []
    for text, reference in zip(texts, references, strict=True):
        ids = [row["prompt_ids"] for row in rows], [row[text] for row in rows]
        base, mine = (
            torch.stack([logps.sum() for logps in of(policy, *ids, 256)])
            for of in (base_logprobs, reply_logprobs)
        )
        assert [row[reference] for row in rows] == pytest.approx(base.tolist(), abs=0.01)
        log_ratios.append(mine - base)
    expected, of_a_copy = (
        float(loss(rows, ratios).mean()) for ratios in (log_ratios, [torch.zeros(len(rows))] * 2)
    )
    assert abs(expected - of_a_copy) > 0.01, "or nothing would tell them apart"
    assert metrics["steps"] == 1
    assert metrics["loss"] == pytest.approx(expected, abs=0.002)
    assert list(trainer.model.peft_config) == ["default"]
    if method != "kto":
        assert trainer.args.label_smoothing == 0, "the sigmoid loss would ignore it, and say nothing"
    assert metrics["optimised"] == metrics["trainable"]
    assert written(folder) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(("method", "decay"), [("grpo", 1.0), ("grpo", 0.7), ("rloo", 0.7)])
def test_a_policy_gradient_that_goes_on_from_an_adapter_has_the_base_as_its_reference(
    method, decay, run, scored, tiny_model, moved_policy, tmp_path, monkeypatch
):
    """Whoever sampled: of some replies the engines have said what the base makes of them, of others not."""
    moved_policy(0.5).save_pretrained(str(tmp_path / "moved"))
    rows = [(replace(row, by_base=row.prompt_id < 2), score) for row, score in read_scores(scored(prompts=4))]
    write_scores(tmp_path / "s.parquet", *zip(*rows, strict=True))
    found, make = [], optimise.METHODS[method]
    monkeypatch.setitem(optimise.METHODS, method, lambda work: found.append(make(work)) or found[0])
    run("o", method, tmp_path / "s.parquet", init=tmp_path / "moved", epochs=1, credit_decay=decay)
    ((trainer, _),) = found
    batch, policy = trainer._batch, load_policy(tiny_model, tmp_path / "moved", 4, TARGETS)
    samples = [row for row, _ in rows]
    ids = [row.prompt_token_ids for row in samples], [row.token_ids for row in samples]
    base, mine = (torch.cat(of(policy, *ids, 256)) for of in (base_logprobs, reply_logprobs))
    reference = batch["ref_per_token_logps"][batch["completion_mask"].bool()]
    assert reference.tolist() == pytest.approx(base.tolist(), abs=0.01)
    assert float((mine - base).abs().max()) > 0.1, "or nothing would tell them apart"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "online_dpo"])
def test_a_second_round_goes_on_from_the_first_and_the_reference_stays_the_base(
    method, run, scored, tiny_model
):
    scores = scored()
    first, folder = run("one", method, scores, epochs=1)
    # The same replies again, at long steps: three of eight seeds went back.
    second, again = run("two", method, scores, init=folder / "adapter", epochs=1, learning_rate=2e-3)
    assert second["hash_before"] == first["hash_after"]
    assert kindness(tiny_model, again / "adapter") > kindness(tiny_model, folder / "adapter")
    assert written(again) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    probes = json.loads((again / "probe.json").read_text())
    base = load_policy(tiny_model, None, 4, TARGETS)
    mine = base_logprobs(
        base, [row["prompt_token_ids"] for row in probes], [row["token_ids"] for row in probes], 1
    )
    for row, logps in zip(probes, mine, strict=True):
        assert row["base_logprobs"] == pytest.approx(logps.tolist(), abs=0.05)


@pytest.mark.slow
def test_the_probe_holds_the_log_probabilities_of_the_adapter_that_was_written(run, scored, tiny_model):
    _, folder = run("o", "online_dpo", scored())
    probes = json.loads((folder / "probe.json").read_text())
    saved = load_policy(tiny_model, folder / "adapter", 4, TARGETS).eval()
    for row in probes:
        (logps,) = reply_logprobs(saved, [row["prompt_token_ids"]], [row["token_ids"]], 1)
        assert row["logprobs"] == pytest.approx(logps.tolist(), abs=0.05)
    assert any(abs(sum(row["logprobs"]) - sum(row["base_logprobs"])) > 0.1 for row in probes)


@pytest.mark.parametrize("method", ON_SAMPLES)
def test_equal_rewards_are_nothing_to_learn_from_and_leave_the_policy_as_it_is(
    method, run, scored, tiny_model
):
    metrics, folder = run("o", method, scored(lambda kind: 1.0), plain_weight=0.5)
    assert re.search(r"differ in reward|of different reward", metrics["held"])
    assert metrics["hash_before"] == metrics["hash_after"]
    assert kindness(tiny_model, folder / "adapter") == pytest.approx(kindness(tiny_model), abs=0.01)
    assert json.loads((folder / "probe.json").read_text()), "a later round goes on with what there is"


@pytest.mark.slow
def test_prompts_that_earlier_jobs_gave_fewer_replies_are_dropped_and_counted(run, scored, tmp_path):
    """Of eight prompts three are of this round, with two replies each; three had four and two had one."""
    rows = [
        (replace(sample, fresh=sample.prompt_id < 3), score)
        for number, (sample, score) in enumerate(read_scores(scored()))
        if number % 4 < (2 if sample.prompt_id < 3 else 4 if sample.prompt_id < 6 else 1)
    ]
    write_scores(tmp_path / "scores.parquet", *zip(*rows, strict=True))
    metrics, _ = run("o", "grpo", tmp_path / "scores.parquet")
    assert (metrics["groups"], metrics["k"], metrics["dropped"]) == (6, 2, 2)


def test_a_step_whose_loss_is_no_number_is_an_error(run, scored, monkeypatch):
    """Its gradient may be one, so that nothing else shows it; a trainer reports the other steps' mean."""

    class Once:
        losses = iter([0.0, float("nan")])

        def loss(self, model):
            trained = next(parameter for parameter in model.parameters() if parameter.requires_grad)
            return 0.0 * trained.sum() + next(self.losses, 0.0)

    monkeypatch.setattr(optimise, "asides", lambda work: ([Once()], None, {}))
    with pytest.raises(StageError, match="loss is not finite"):
        run("o", "grpo", scored())


def test_a_step_that_leaves_no_number_is_not_told_as_one_that_was_too_long(run, scored, monkeypatch):
    def broken(*given):
        model = load_policy(*given)
        trained = next(parameter for parameter in model.parameters() if parameter.requires_grad)
        trained.register_hook(lambda gradient: gradient * float("nan"))
        return model

    monkeypatch.setattr(round_, "load_policy", broken)
    with pytest.raises(StageError, match="is not finite after training"):
        run("o", "best_of_n", scored(), epochs=1)


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_tokens_that_have_become_far_likelier_teach_nothing_be_they_good_or_bad(
    method, run, scored, tmp_path
):
    """As if an ancestor that hardly said any of them had sampled; PPO's clip bounds none of a bad reply."""
    rows = read_scores(scored())
    samples = [replace(row, logprobs=[logprob - 2 for logprob in row.logprobs]) for row, _ in rows]
    write_scores(tmp_path / "scores.parquet", samples, [score for _, score in rows])
    with pytest.raises(StageError, match="no-op"):
        run("o", method, tmp_path / "scores.parquet", beta=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_replies_that_ended_at_once_are_learnt_from_on_either_side(method, run, scored, tmp_path):
    """Beside them some are said well of, so that they are learnt by heart too."""
    rows = [
        Label("comparison", HI, *(("", "bad") if n % 2 else ("good", "")), 1.0, conversation="c1")
        if n % 4 < 2
        else Label("thumb", HI, "" if n % 8 < 4 else "good", None, float(n % 2), conversation="c1")
        for n in range(32)
    ]
    write_labels(tmp_path / "t.parquet", rows)
    metrics, _ = run("o", method, scored(), labels=tmp_path / "t.parquet", epochs=1, sft_weight=1.0)
    assert metrics["pairs" if method == "dpo" else "thumbs"] == 16
    assert metrics["rated"] == 24
    assert 0 < metrics["grad_norm"] < float("inf")


def test_an_update_that_changes_nothing_is_an_error(run, scored):
    with pytest.raises(StageError, match="no-op"):
        run("o", "rloo", scored(), learning_rate=0.0)


def test_one_reply_a_prompt_is_not_enough_for_a_baseline(run, scored):
    with pytest.raises(StageError, match="at least 2 replies"):
        run("o", "rloo", scored(k=1))


@pytest.mark.slow
def test_kl_holds_the_policy_near_the_base(run, scored, tiny_model):
    scores = scored()
    _, free = run("free", "online_dpo", scores, beta=0.01, epochs=4)
    _, held = run("held", "online_dpo", scores, beta=5.0, epochs=4)
    assert kindness(tiny_model, held / "adapter") < kindness(tiny_model, free / "adapter")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_a_greater_beta_ends_a_policy_gradient_nearer_to_the_base(method, run, scored, tiny_model, tmp_path):
    """Of a policy that has moved: what it says more often than the base costs it."""
    scores = scored()
    _, moved = run("moved", "grpo", scores)
    rows = read_scores(scores)
    prompts, texts = zip(*((row.prompt_token_ids, row.token_ids) for row, _ in rows), strict=True)
    policy = load_policy(tiny_model, moved / "adapter", 4, TARGETS)
    said = reply_logprobs(policy, prompts, texts, 256)
    samples = [replace(row, logprobs=new.tolist()) for (row, _), new in zip(rows, said, strict=True)]
    write_scores(tmp_path / "scores.parquet", samples, [score for _, score in rows])
    given = {"init": moved / "adapter", "learning_rate": SHORT_STEPS}
    free, far = run("free", method, tmp_path / "scores.parquet", beta=0.0, **given)
    held, near = run("held", method, tmp_path / "scores.parquet", beta=5.0, **given)
    assert held["kl_base"] < free["kl_base"]
    base = kindness(tiny_model)
    assert abs(kindness(tiny_model, near / "adapter") - base) < abs(
        kindness(tiny_model, far / "adapter") - base
    )


def test_a_frozen_adapter_is_refused(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS)
    assert assert_trainable(model) > 0
    model.requires_grad_(False)
    with pytest.raises(StageError, match="nothing would be trained"):
        assert_trainable(model)


def test_the_hash_sees_every_trainable_number(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS)
    before = trainable_hash(model)
    assert before == trainable_hash(model)
    next(parameter for parameter in model.parameters() if parameter.requires_grad).data.view(-1)[3] += 1e-3
    assert trainable_hash(model) != before


def test_rows_of_repeated_groups_are_each_taken_once():
    assert occurrences([2, 2, 0, 0, 1, 1], 2) == [4, 5, 0, 1, 2, 3]
