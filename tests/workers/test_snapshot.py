import json

import pytest

from feedback.reader import START, FeedbackReader
from tests.conftest import Gateway, chat
from tests.servers import eventually
from workers.datasets import for_judge, is_held_out
from workers.labels import read_labels, read_prompts
from workers.stage import execute
from workers.stages import snapshot


@pytest.fixture
def take(gateway: Gateway, valkey, tmp_path, monkeypatch):
    monkeypatch.setenv("THUMBWHEEL_REDIS_URL", valkey.url)

    def take(name: str, cursor: str = START, replay: int = 0, holdout: float = 0.2, **more):
        folder = tmp_path / name
        folder.mkdir()
        config = {"cursor": cursor, "replay": replay, "holdout": holdout, "prompts": 100, "seed": 1}
        config |= more
        (folder / "stage.json").write_text(json.dumps(config))
        metrics = execute(folder, snapshot.Config, snapshot.main)
        labels = read_labels(folder / "train.parquet"), read_labels(folder / "holdout.parquet")
        prompts = [
            prompt for held in (False, True) for prompt in read_prompts(folder / "prompts.parquet", held)
        ]
        return metrics, *labels, prompts

    return take


def ask(client, text: str, **more) -> str:
    completion_id = chat(client, messages=[{"role": "user", "content": text}], **more)["id"]
    eventually(lambda: client.get(f"/v1/completions/{completion_id}").status_code == 200)
    return completion_id


def rate(client, completion_id: str, rating: str = "up", **more) -> None:
    answer = client.post("/v1/feedback", json={"completion_id": completion_id, "rating": rating, **more})
    assert answer.status_code == 200, answer.text


def test_a_thumb_becomes_a_row(client, take):
    rate(client, ask(client, "one"), "down")
    metrics, train, holdout, prompts = take("s")
    (label,) = train + holdout
    assert (label.kind, label.a, label.b, label.target) == ("thumb", "A fine answer.", None, 0.0)
    assert (label.policy, label.a_finish) == ("policy-v0", "stop")
    assert metrics["new"] == metrics["labels_given"] == 1
    assert [prompt.messages for prompt in prompts] == [[{"role": "user", "content": "one"}]]


def test_a_changed_mind_counts_once_and_a_withdrawn_one_not_at_all(client, take):
    changed, withdrawn = ask(client, "one"), ask(client, "two")
    rate(client, changed, "up")
    rate(client, withdrawn, "up")
    rate(client, changed, "down")
    client.delete(f"/v1/feedback/{withdrawn}")
    _, train, holdout, _ = take("s")
    assert [(label.messages[0]["content"], label.target) for label in train + holdout] == [("one", 0.0)]


def test_a_correction_beats_what_it_corrects(client, take):
    rate(client, ask(client, "one"), "down", correction="A better answer.")
    _, train, holdout, _ = take("s")
    labels = {label.kind: label for label in train + holdout}
    assert (labels["comparison"].a, labels["comparison"].b) == ("A better answer.", "A fine answer.")
    assert labels["comparison"].target == 1.0


def test_comparisons_ties_and_both_bad(client, gateway, take):
    gateway.engine.reply = "This."
    first = ask(client, "one")
    gateway.engine.reply = "That."
    second = ask(client, "one")
    body = {"chosen": second, "rejected": first, "strength": 0.5, "user": "ann"}
    assert client.post("/v1/comparisons", json=body).status_code == 200
    gateway.engine.first_replies = ["Neither.", "Nor.", "Dull.", "Rude."]
    pairs = [
        client.post("/v1/pairs", json={"messages": [{"role": "user", "content": text}]}).json()
        for text in ("two", "three")
    ]
    eventually(lambda: client.get("/v1/stats/policies").json()["data"][0]["completions"] == 6)
    for pair, winner in zip(pairs, ("tie", "both_bad"), strict=True):
        assert (
            client.post("/v1/comparisons", json={"pair_id": pair["id"], "winner": winner}).status_code == 200
        )
    metrics, train, holdout, _ = take("s")
    rows = [(label.messages[0]["content"], label.kind, label) for label in train + holdout]
    (decided,) = [label for text, kind, label in rows if (text, kind) == ("one", "comparison")]
    assert (decided.a if decided.target == 1.0 else decided.b) == "That."
    assert decided.margin == 0.5
    (tie,) = [label for text, kind, label in rows if (text, kind) == ("two", "comparison")]
    assert (tie.target, {tie.a, tie.b}) == (0.5, {"Neither.", "Nor."})
    bad = [label for text, kind, label in rows if (text, kind) == ("three", "thumb")]
    assert sorted((label.a, label.b, label.target) for label in bad) == [
        ("Dull.", None, 0.0),
        ("Rude.", None, 0.0),
    ]
    assert len(rows) == 4
    assert metrics["weights"]["repeated"] == 0


def test_broken_off_and_unstored_replies_are_never_trained_on(client, gateway, take):
    rate(client, ask(client, "secret", store=False))
    gateway.engine.reply, gateway.engine.die_after = "one two three", 1
    body = {"model": "policy", "messages": [{"role": "user", "content": "x"}], "stream": True}
    text = client.post("/v1/chat/completions", json=body).text
    broken = text.split('"id":"')[1].split('"')[0]
    eventually(lambda: client.get(f"/v1/completions/{broken}").status_code == 200)
    rate(client, broken)
    metrics, train, holdout, prompts = take("s")
    assert metrics["labels_given"] == 2
    assert train + holdout == []
    assert prompts == []


def test_next_snapshot_has_what_is_new_and_a_replay_of_the_past(client, take):
    for number in range(6):
        rate(client, ask(client, f"old {number}"))
    first, *_ = take("first")
    rate(client, ask(client, "new"))
    metrics, train, holdout, _ = take("second", first["cursor"], replay=4)
    assert metrics["new"] == 1
    assert metrics["replayed"] == 4
    assert len(train + holdout) == 5
    metrics, train, holdout, _ = take("third", first["cursor"], replay=100)
    assert len(train + holdout) == 7


@pytest.mark.slow
def test_split_is_by_conversation_and_for_ever(client, take):
    for number in range(40):
        rate(client, ask(client, f"question {number}"))
    _, train, holdout, prompts = take("s", holdout=0.3)
    assert 4 <= len(holdout) <= 20
    assert all(is_held_out(label.conversation, 0.3) for label in holdout)
    assert not {label.conversation for label in train} & {label.conversation for label in holdout}
    assert {p.conversation for p in prompts if p.holdout} == {label.conversation for label in holdout}
    assert [is_held_out(f"conv-{number}", 0.5) for number in range(6)] == [
        False,
        True,
        True,
        False,
        False,
        True,
    ]


def test_reader_reads_past_many_events(client, redis, take):
    completion_id = ask(client, "one")
    rate(client, completion_id)
    body = redis.xrange("tw:events")[0][1]["body"]
    with redis.pipeline() as pipe:
        for _ in range(2500):
            pipe.xadd("tw:events", {"kind": "rating", "body": body})
        pipe.execute()
    reader = FeedbackReader(redis)
    assert len(reader.since(START, reader.cursor())) == 1
    assert len(reader.before(reader.cursor(), 10, seed=1)) == 1


def test_a_loud_rater_and_copies_are_weighed_down_on_both_sides(client, gateway, take):
    for number in range(12):
        gateway.engine.reply = " ".join(f"word{number}x{n}" for n in range(12))
        rate(client, ask(client, f"question {number}"), user=f"rater-{number % 4}")
    gateway.engine.reply = " ".join(f"loud{n}" for n in range(12))
    for number in range(12):
        rate(client, ask(client, f"question {number}"), user="loud")
    metrics, train, holdout, _ = take("s", holdout=0.4)
    assert metrics["weights"]["in_bursts"] > 2
    assert metrics["weights"]["largest_share_before"] > 0.4
    assert metrics["weights"]["largest_share"] < 0.3
    for side in (train, holdout):
        loud = [label.weight for label in side if label.rater == "loud"]
        others = [label.weight for label in side if label.rater != "loud"]
        assert sum(side_weight.weight for side_weight in side) == pytest.approx(len(side))
        assert sum(loud) < 0.5 * sum(others)


def test_each_snapshot_leaves_a_mark_to_draw_the_past_by(client, redis, take):
    rate(client, ask(client, "one"))
    metrics, *_ = take("s")
    assert redis.zrange("tw:marks", 0, -1, withscores=True) == [(metrics["cursor"], 1.0)]


def test_of_very_much_that_is_new_some_is_read_and_the_rest_is_told(client, take, monkeypatch):
    for number in range(12):
        rate(client, ask(client, f"question {number}"))
    looked_up = []
    standing = FeedbackReader.standing
    monkeypatch.setattr(
        FeedbackReader,
        "standing",
        lambda self, places: looked_up.append(len(places)) or standing(self, places),
    )
    metrics, train, holdout, _ = take("s", max_labels=2)
    assert looked_up[0] == 8
    assert len(train) == 2
    assert metrics["new_left_out"] == 12 - len(holdout) - 2
    metrics, train, holdout, _ = take("again", metrics["cursor"], replay=100, max_labels=100)
    assert (len(train) + len(holdout), metrics["new_left_out"]) == (12, 0)


@pytest.mark.slow
def test_what_is_learnt_from_is_bounded_before_it_is_weighed_and_keeps_room_for_the_past(client, take):
    for number in range(12):
        rate(client, ask(client, f"old {number}"), user=f"rater-{number % 4}")
    first, *_ = take("first", holdout=0.0)
    for number in range(5):
        rate(client, ask(client, f"new {number}"), user=f"rater-{number}")
    for number in range(30):
        rate(client, ask(client, f"loud {number}"), user="loud")
    _, train, _, _ = take("second", first["cursor"], replay=50, holdout=0.0, max_labels=16)
    said = [label.messages[0]["content"].split()[0] for label in train]
    assert {kind: said.count(kind) for kind in ("old", "new", "loud")} == {"old": 8, "new": 5, "loud": 3}
    for judge in (True, False):
        part = [label.weight for label in train if for_judge(label) == judge]
        assert sum(part) == pytest.approx(len(part)), "each that learns has weights that are 1 on average"


def test_what_is_asked_in_the_holdout_is_not_learnt_from_in_another_conversation(client, take):
    names = [f"conv-{number}" for number in range(6)]  # of which 1, 2 and 5 are held out at a half
    for number, name in enumerate(names):
        for text in ("asked by all", f"only {number}"):
            rate(client, ask(client, text, metadata={"conversation_id": name}))
    metrics, train, holdout, prompts = take("s", holdout=0.5)
    assert {label.messages[0]["content"] for label in train} == {"only 0", "only 3", "only 4"}
    assert sorted(label.messages[0]["content"] for label in holdout) == [
        "asked by all",  # of one rater's votes on the same reply the newest
        "only 1",
        "only 2",
        "only 5",
    ]
    assert metrics["asked_in_holdout"] == 3
    sides = {prompt.messages[0]["content"]: prompt.holdout for prompt in prompts}
    assert sides["asked by all"]
    assert [sides[f"only {number}"] for number in range(6)] == [False, True, True, False, False, True]
