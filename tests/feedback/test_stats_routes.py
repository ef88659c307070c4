"""The dashboard's figures over HTTP: a crowd's feedback, filtered, downloaded, and followed down."""

import csv
import io
import time
from collections.abc import Iterator

import httpx
import orjson
import pytest
from redis import Redis

from feedback import layout
from feedback.caller import Role
from feedback.export import BOM
from feedback.filters import MOST_DAYS, MOST_HOURS, Window
from feedback.formats import parse
from feedback.intervals import wilson
from feedback.labels import CHUNK, MOST_READ
from feedback.layout import DAY, HOUR, MOST_REASONS, REASONS
from tests.conftest import Gateway, chat
from tests.crowd import VERSIONS, Crowd
from tests.servers import eventually

DAYS = 12
THUMBS = 400


@pytest.fixture(scope="module")
def filled(steady: Gateway) -> Gateway:
    end = time.time() - 60
    Crowd(end - DAYS * DAY, end, THUMBS, comments=0.2).speak(steady.redis)
    line = {"prompt": "Imported?", "completion": "Yes.", "label": True}
    with steady.client() as client:
        answer = client.post("/v1/import", json={"lines": [{"number": 1, "record": line}]})
        assert answer.json()["imported"]["unpaired"] == 1
    return steady


@pytest.fixture
def client(filled: Gateway) -> Iterator[httpx.Client]:
    with filled.client() as client:
        yield client


def look(client: httpx.Client, path: str = "dashboard", **filters: object) -> dict:
    answer = client.get(f"/v1/stats/{path}", params=filters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def since(days: float) -> float:
    return time.time() - days * DAY


def test_all_time_is_everything_that_stands(client):
    found = look(client)
    assert found["since"] is None
    assert found["known"]["versions"] == [version.name for version in VERSIONS]
    assert found["known"]["tags"] == ["help desk", "writing"]
    assert found["known"]["sources"] == {"human": THUMBS * 5 // 4, "import": 1}
    totals = found["totals"]
    assert totals["labels"] == THUMBS * 5 // 4 + 1
    assert totals["up"] + totals["down"] == THUMBS + 1
    assert totals["comparisons"] == THUMBS // 4
    low, high = totals["approval_interval"]
    assert low < totals["approval"] < high
    assert 0 < totals["response_rate"] < 1
    rows = {row["policy"]: row for row in found["policies"]}
    assert list(rows) == [version.name for version in VERSIONS], "what was imported is no version of ours"
    assert rows["policy-v3"]["approval"] > rows["policy-v0"]["approval"]


def test_time_narrows_all_figures_alike(client):
    all_days = look(client, since=since(DAYS + 1))
    few = look(client, since=since(3))
    assert all_days["totals"]["labels"] == look(client)["totals"]["labels"]
    assert 0 < few["totals"]["labels"] < all_days["totals"]["labels"]
    assert (few["unit"], all_days["unit"]) == ("hour", "day")
    for found in (few, all_days):
        drawn = sum(row["up"] + row["down"] + row["comparisons"] for row in found["volume"])
        assert drawn == found["totals"]["labels"]
    assert "policy-v0" not in {row["policy"] for row in few["policies"]}
    assert few["raters"]["labels"] <= all_days["raters"]["labels"]
    gone = look(client, since=since(30), until=since(20))
    assert gone["totals"]["labels"] == 0
    assert gone["totals"]["approval"] is gone["totals"]["approval_interval"] is None
    assert gone["matrix"] == {"versions": [], "cells": []}


def test_versions_tags_and_sources_narrow_them(client):
    one = look(client, versions="policy-v1")
    assert [row["policy"] for row in one["policies"]] == ["policy-v1"]
    assert set(one["matrix"]["versions"]) == {"policy-v0", "policy-v1", "policy-v2"}, "and whom it met"
    by_tag = [look(client, tag=tag)["totals"]["labels"] for tag in ("help desk", "writing")]
    assert all(0 < labels < THUMBS for labels in by_tag)
    assert sum(by_tag) < THUMBS * 5 // 4, "some have no tag"
    assert look(client, tag="unheard of")["totals"]["labels"] == 0
    human, imported = (look(client, source=source)["totals"] for source in ("human", "import"))
    assert (human["labels"], imported["labels"]) == (THUMBS * 5 // 4, 1)
    assert imported["approval"] == 1.0
    both = look(client, tag="writing", versions="policy-v3,policy-v2", since=since(6), source="human")
    assert both["filters"] == {
        "versions": ["policy-v2", "policy-v3"],
        "tag": "writing",
        "source": "human",
    }
    assert 0 < both["totals"]["labels"] < by_tag[1]


def test_each_figure_alone_is_as_on_the_dashboard(client):
    filters = {"since": since(6), "tag": "writing"}
    found = look(client, **filters)
    alone = look(client, "matrix", **filters)
    assert (alone["matrix"], alone["strengths"]) == (found["matrix"], found["strengths"])
    assert look(client, "reasons", **filters)["data"] == found["reasons"]
    assert {**look(client, "sides", **filters)}.items() >= found["sides"].items()
    assert look(client, "raters", **filters).items() >= found["raters"].items()
    assert look(client, "comments", limit=30, **filters)["data"] == found["comments"]
    tags = {row["tag"]: row["labels"] for row in look(client, "tags")["data"]}
    assert tags["writing"] == look(client, tag="writing")["totals"]["labels"]
    assert look(client, "sources")["data"][1] == {"source": "import", "labels": 1}
    days = look(client, "days", policy="policy-v3")["data"]
    row = next(row for row in look(client)["policies"] if row["policy"] == "policy-v3")
    assert sum(day["up"] for day in days) == row["up"]


def test_a_matrix_has_each_pair_from_both_sides(client):
    cells = {(cell["policy"], cell["against"]): cell for cell in look(client)["matrix"]["cells"]}
    for (policy, against), cell in cells.items():
        mirrored = cells[against, policy]
        assert (cell["wins"], cell["ties"]) == (mirrored["losses"], mirrored["ties"])
        assert cell["win_rate"] + mirrored["win_rate"] == pytest.approx(1)
        games = cell["wins"] + cell["losses"] + cell["ties"]
        assert cell["win_interval"] == pytest.approx(wilson(cell["win_rate"] * games, games))
        assert cell["win_interval"][0] < cell["win_rate"] < cell["win_interval"][1]
    strengths = look(client)["strengths"]
    assert strengths[0]["policy"] == "policy-v3"
    assert all(row["interval"][0] <= row["value"] <= row["interval"][1] for row in strengths)


def test_comments_are_the_newest_and_lead_to_their_conversation(client):
    comments = look(client, "comments", limit=200)["data"]
    assert len(comments) > 20
    assert [row["created"] for row in comments] == sorted((row["created"] for row in comments), reverse=True)
    assert len(look(client, "comments", limit=3)["data"]) == 3
    assert {row["policy"] for row in look(client, "comments", versions="policy-v1")["data"]} == {"policy-v1"}
    assert {row["tag"] for row in look(client, "comments", tag="writing")["data"]} == {"writing"}
    path = f"/v1/completions/{comments[0]['completion_id']}"
    assert client.get(path).json()["messages"][-1]["role"] == "user"
    [rating] = client.get(path + "/ratings").json()["data"]
    assert rating["comment"] == comments[0]["comment"]
    assert client.get("/v1/completions/none/ratings").status_code == 404


def paged(client: httpx.Client, path: str, **filters: object) -> list[dict]:
    """The rows of all pages."""
    rows, after = [], {}
    while True:
        page = look(client, path, **filters, **after)
        rows += page["data"]
        if page["next"] is None:
            return rows
        after = {"after": page["next"]}


def name_of(row: dict) -> tuple[str, str, str]:
    return row["kind"], row.get("completion_id") or row["pair_id"], row["rater"]


@pytest.mark.parametrize("limit", [7, 200])
def test_all_labels_are_listed_page_by_page_with_words_or_without(client, limit):
    rows = paged(client, "labels", limit=limit)
    assert len({name_of(row) for row in rows}) == len(rows) == look(client)["totals"]["labels"]
    assert {row["kind"] for row in rows if not row.get("comment")} == {"rating", "comparison"}
    assert rows[:limit] == look(client, "labels", limit=limit)["data"]


@pytest.mark.parametrize("path", ["labels", "comments"])
def test_what_is_listed_takes_the_filters(client, path):
    everything = paged(client, path, limit=50)
    for filters, taken in (
        ({"tag": "writing"}, lambda row: row["tag"] == "writing"),
        ({"versions": "policy-v1"}, lambda row: "policy-v1" in policies_of(row)),
        ({"since": since(5)}, lambda row: row["created"] >= int(since(5)) // HOUR * HOUR),
        ({"source": "human"}, lambda row: row["source"] == "human"),
    ):
        expected = [row for row in everything if taken(row)]
        assert len(expected) > 0
        assert paged(client, path, limit=50, **filters) == expected
        if path == "labels":
            assert len(expected) == look(client, **filters)["totals"]["labels"]


@pytest.mark.parametrize("filters", [{"versions": "policy-v1"}, {"versions": "policy-v3", "tag": "writing"}])
def test_a_reason_leads_to_the_labels_that_it_counts(client, filters):
    reasons = look(client, "reasons", **filters)["data"]
    assert {"Accurate", "Wrong"} <= {row["reason"] for row in reasons}
    assert any(row.get("chosen") and row.get("up") for row in reasons)
    everything = paged(client, "labels", limit=50, **filters)
    for row in reasons:
        labels = paged(client, "labels", limit=7, reason=row["reason"], **filters)
        assert len(labels) == row["total"]
        assert all(row["reason"] in label["reasons"] for label in labels)
        assert [label for label in everything if label in labels] == labels


def test_reasons_that_came_too_late_to_be_counted_by_name_are_listed_as_other(redis: Redis, gateway: Gateway):
    redis.sadd(REASONS, "early", *map(str, range(MOST_REASONS - 1)))
    with gateway.client() as client:
        for reasons in (["late", "early"], ["later"], ["early"], []):
            body = {"completion_id": chat(client)["id"], "rating": "down", "reasons": reasons}
            assert client.post("/v1/feedback", json=body).status_code == 200
        counted = {row["reason"]: row["total"] for row in look(client, "reasons")["data"]}
        assert counted == {"early": 2, "other": 2}
        listed = {
            reason: [row["reasons"] for row in look(client, "labels", reason=reason)["data"]]
            for reason in counted
        }
    assert listed == {"early": [["early"], ["late", "early"]], "other": [["later"], ["late", "early"]]}


@pytest.mark.parametrize("reason", ["", "r" * 101])
def test_a_reason_that_cannot_be_is_refused(client, reason):
    answer = client.get("/v1/stats/labels", params={"reason": reason})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "reason")


def policies_of(row: dict) -> set[str]:
    return {row["policy"]} if row["kind"] == "rating" else set(row["policies"].values())


def test_comments_go_on_after_a_page(client):
    rows = paged(client, "comments", limit=7)
    assert rows == look(client, "comments", limit=200)["data"]
    assert len(rows) > 20


def test_a_bare_label_leads_to_its_conversation(client):
    rows = look(client, "labels", limit=200)["data"]
    thumb, choice = (
        next(row for row in rows if row["kind"] == kind and not row.get("comment"))
        for kind in ("rating", "comparison")
    )
    path = f"/v1/completions/{thumb['completion_id']}"
    assert client.get(path).json()["policy"] == thumb["policy"]
    assert client.get(path + "/ratings").json()["data"][0]["rating"] == thumb["rating"]
    pair = client.get(f"/v1/comparisons/{choice['pair_id']}").json()
    assert {pair[side]["policy"] for side in "ab"} == set(choice["policies"].values())


def test_a_label_is_listed_as_it_stands(client, filled):
    def mine() -> list[str]:
        rows = look(client, "labels", limit=20)["data"]
        return [row["rating"] for row in rows if row.get("completion_id") == completion_id]

    completion_id = chat(client)["id"]
    for rating in ("up", "down", "up", "down"):
        client.post("/v1/feedback", json={"completion_id": completion_id, "rating": rating})
    assert mine() == ["down"]
    client.delete(f"/v1/feedback/{completion_id}")
    assert mine() == []


@pytest.mark.slow
@pytest.mark.parametrize("filters", [{"tag": "none has this"}, {"reason": "none has this"}])
def test_a_page_of_labels_reads_so_many_events_at_most(redis: Redis, gateway: Gateway, filters):
    end = time.time() - 60
    Crowd(end - DAY, end, MOST_READ * 3 // 2).speak(redis)
    with gateway.client() as client:
        redis.config_resetstat()
        found = look(client, "labels", **filters)
        asked = redis.info("commandstats")
        assert (found["data"], asked["cmdstat_xrevrange"]["calls"]) == ([], MOST_READ // CHUNK)
        assert asked["cmdstat_hget"]["calls"] <= MOST_READ
        found = look(client, "labels", **filters, after=found["next"])
        assert (found["data"], found["next"]) == ([], None), "there are fewer than two such pages"


@pytest.mark.parametrize(("path", "after"), [("labels", "soon"), ("labels", "1"), ("comments", "1-1")])
def test_a_page_after_nothing_that_can_be_is_refused(client, path, after):
    answer = client.get(f"/v1/stats/{path}", params={"after": after})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


def test_a_comment_goes_with_its_rating(client, filled):
    def mine() -> list[str]:
        return [
            row["comment"] for row in look(client, "comments", limit=200)["data"] if row["rater"] == rater
        ]

    completion_id = chat(client, metadata={"tag": "my tag"})["id"]
    body = {"completion_id": completion_id, "rating": "up"}
    rater = client.post("/v1/feedback", json={**body, "comment": "first"}).json()["rater"]
    assert mine() == ["first"]
    eventually(lambda: "my tag" in look(client)["known"]["tags"])
    assert look(client, "comments", tag="my tag")["data"][0]["comment"] == "first"
    client.post("/v1/feedback", json={**body, "comment": "second"})
    assert mine() == ["second"]
    client.post("/v1/feedback", json=body)
    assert mine() == []
    client.post("/v1/feedback", json={**body, "comment": "third"})
    client.delete(f"/v1/feedback/{completion_id}")
    assert mine() == []


def test_a_pair_can_be_looked_at_once_it_is_answered(client, filled):
    body = {"messages": [{"role": "user", "content": "Hello?"}]}
    pair = client.post("/v1/pairs", json=body).json()
    path = f"/v1/comparisons/{pair['id']}"
    assert client.get(path).status_code == 404, "its versions are hidden until then"
    answer = {"pair_id": pair["id"], "winner": "a", "comment": "the left one"}
    client.post("/v1/comparisons", json=answer)
    eventually(lambda: client.get(path).json()["b"])
    found = client.get(path).json()
    assert found["blind"] is True
    assert found["a"]["reply"] == pair["a"]["message"]["content"]
    assert [choice["comment"] for choice in found["data"]] == ["the left one"]
    newest = look(client, "comments", limit=1)["data"][0]
    assert (newest["pair_id"], newest["policies"]) == (pair["id"], {"a": "policy-v0", "b": "policy-v0"})


def test_downloads_are_what_is_shown(client):
    filters = {"since": since(5), "tag": "writing"}
    totals = look(client, **filters)["totals"]
    answer = client.get("/v1/stats/export", params={"format": "jsonl", **filters})
    assert answer.headers["content-disposition"] == 'attachment; filename="feedback.jsonl"'
    lines = [orjson.loads(line) for line in answer.content.splitlines()]
    assert len(lines) == totals["labels"]
    assert sum(line.get("label") is True for line in lines) == totals["up"]
    assert {line["tag"] for line in lines} == {"writing"}
    for line in lines:
        parse(line)
    table = client.get("/v1/stats/export", params={"format": "csv", **filters})
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text.removeprefix(BOM))))
    assert [row["completion_id"] for row in rows] == [line["completion_id"] for line in lines]
    everything = client.get("/v1/stats/export").content.splitlines()
    assert len(everything) == look(client)["totals"]["labels"]


def test_a_download_has_a_changed_mind_once_and_a_withdrawn_one_not(client):
    def mine() -> list[str]:
        lines = client.get("/v1/stats/export", params={"since": since(0.1)}).content.splitlines()
        found = (orjson.loads(line) for line in lines)
        return [line["comment"] for line in found if line["completion_id"] == completion_id]

    completion_id = chat(client)["id"]
    for comment in ("one", "two", "three"):
        body = {"completion_id": completion_id, "rating": "up", "comment": comment}
        client.post("/v1/feedback", json=body)
    eventually(lambda: client.get(f"/v1/completions/{completion_id}").status_code == 200)
    assert mine() == ["three"]
    client.delete(f"/v1/feedback/{completion_id}")
    assert mine() == []


def test_figures_are_for_viewers(client, filled):
    with filled.client(filled.key(Role.user)) as user, filled.client(filled.key(Role.viewer)) as viewer:
        for path in (
            "stats/dashboard", "stats/matrix", "stats/reasons", "stats/raters", "stats/comments",
            "stats/labels", "stats/sides", "stats/tags", "stats/sources", "stats/export", "stats/live",
            "completions/x/ratings", "comparisons/x",
        ):  # fmt: skip
            assert user.get(f"/v1/{path}").status_code == 403, path
        assert viewer.get("/v1/stats/dashboard").status_code == 200


@pytest.mark.parametrize(
    "filters",
    [
        {"since": "soon"},
        {"source": "aliens"},
        {"tag": ""},
        {"versions": "v" * 3000},
        {"since": -1},
        {"until": 9},
    ],
)
def test_filters_that_cannot_be_are_refused(client, filters):
    answer = client.get("/v1/stats/dashboard", params=filters)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_value"


def test_changes_are_told_while_a_page_listens(client, filled):
    completion_id = chat(client)["id"]
    with filled.client() as other, other.stream("GET", "/v1/stats/live") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        places = (line for line in stream.iter_lines() if line.startswith("data: "))
        before = next(places)
        client.post("/v1/feedback", json={"completion_id": completion_id, "rating": "up"})
        assert next(places) != before


def test_a_look_reads_no_more_of_longer_times():
    now = 1_700_000_000.0
    week, month, ever = (Window.of(now - days * DAY, now) for days in (7, 30, 3000))
    assert (week.unit, len(week.starts())) == ("hour", MOST_HOURS)
    assert (month.unit, len(month.starts())) == ("day", 31)
    assert len(ever.starts()) == MOST_DAYS
    hour = Window.of(now, now)
    assert len(hour.starts()) <= 1
    assert len(Window.of(now + DAY, now).starts()) == 0
    assert Window.of(now - HOUR, now).first % HOUR == 0


@pytest.mark.slow
def test_commands_of_a_look_do_not_grow_with_ratings(redis: Redis, gateway: Gateway):
    """Counted by the server: the same at ten times as many ratings."""
    end = time.time() - 60

    def reads() -> int:
        stats = redis.info("commandstats")
        return sum(found["calls"] for name, found in stats.items() if name in READS)

    def at_rest() -> bool:
        before = reads()
        time.sleep(0.1)
        return reads() == before

    def commands() -> int:
        eventually(at_rest)  # the gateway has read what it begins with
        redis.delete(layout.STORE)  # and so has to read all again, not what has changed
        redis.config_resetstat()
        with gateway.client() as client:
            look(client, since=since(6))
        return reads()

    Crowd(end - 6 * DAY, end, 100, comments=1.0).speak(redis)
    few = commands()
    Crowd(end - 6 * DAY, end, 1000, comments=1.0, seed=1).speak(redis)
    assert abs(commands() - few) < 20, "but for what the gateway itself looks at now and then"
    assert MOST_HOURS <= few < MOST_HOURS + 100


READS = ("cmdstat_hgetall", "cmdstat_zrevrange", "cmdstat_zrevrangebyscore", "cmdstat_hget")
