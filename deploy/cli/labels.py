"""`thumbwheel feedback labels`, `… conversation`: labels one by one, and from there down to what was said."""

import json
from collections.abc import Iterable
from textwrap import indent
from typing import Annotated, Any

import typer
from rich.markup import escape

from deploy.cli.filters import Days, Query, Since, Source, Tag, Until, Versions, query_of
from deploy.cli.session import AsJson, Limit, Session
from deploy.cli.show import Screen
from deploy.cli.table import show_table
from deploy.cli.words import ago, many, stamp
from deploy.client import PAGE, Client, Object

MOST_REASONS = 8
FINISHES = {"stop": None, "length": "cut at its longest", None: "broken off"}


def labels(
    ctx: typer.Context,
    limit: Limit = 20,
    versions: Versions = None,
    days: Days = None,
    since: Since = None,
    until: Until = None,
    tag: Tag = None,
    source: Source = None,
    reason: Annotated[str | None, typer.Option(help="Only those that tick it, such as `too long`.")] = None,
    comments: Annotated[bool, typer.Option("--comments", help="Only those with a comment.")] = False,
    as_json: AsJson = False,
) -> None:
    """The newest labels, with a comment or without."""
    session: Session = ctx.obj
    query = query_of(versions, days, since, until, tag, source)
    if reason is not None:
        if comments:
            raise typer.BadParameter("Comments are not looked through for one.", param_hint="--reason")
        query["reason"] = reason
    with session.connect() as client:
        found = newest(client, limit, query, "comments" if comments else "labels")
        ticked = [] if found or reason is None else _reasons(client, query)
    if as_json:
        session.screen.json(found)
        return
    if not found:
        session.screen.say(_none(query, comments, ticked))
        return
    rows = [
        (
            *who_said(label),
            label["tag"],
            ", ".join(label["reasons"]),
            label["comment"],
            label.get("completion_id") or label["pair_id"],
        )
        for label in found
    ]
    columns = ("when", "policy", "said", "tag", "reasons", "comment", "conversation")
    prose, least = ("reasons", "comment"), ("tag", "when")
    show_table(session.screen.console, columns, rows, prose=prose, least=least)


def conversation(
    ctx: typer.Context,
    of: Annotated[
        str, typer.Argument(metavar="ID", help="A reply's id, or a pair's; `feedback labels` shows it.")
    ],
    as_json: AsJson = False,
) -> None:
    """The conversation behind a label, and all that was said of it."""
    session: Session = ctx.obj
    screen = session.screen
    with session.connect() as client:
        if of.startswith("pair-"):
            found = client.get(f"/v1/comparisons/{of}")
        else:
            path = f"/v1/completions/{of}"
            found = {**client.get(path), "ratings": client.get(f"{path}/ratings")["data"]}
    if as_json:
        screen.json(found)
    elif "ratings" in found:
        _show_reply(screen, found)
    else:
        _show_pair(screen, found)


def newest(client: Client, limit: int, query: Query, which: str) -> list[Object]:
    """`limit` labels at the most, or comments. A page may be short, or empty, and have a next one all the
    same."""
    found: list[Object] = []
    after: dict[str, str] = {}
    while True:
        page = client.get(f"/v1/stats/{which}", limit=min(PAGE, limit - len(found)), **query, **after)
        found += page["data"]
        if page["next"] is None or len(found) >= limit:
            return found
        after = {"after": page["next"]}


def _reasons(client: Client, query: Query) -> list[str]:
    """What was ticked, whatever is asked for, but of the same selection."""
    others = {name: value for name, value in query.items() if name != "reason"}
    return [row["reason"] for row in client.get("/v1/stats/reasons", **others)["data"]]


def _none(query: Query, comments: bool, ticked: list[str]) -> str:
    """Why no label is listed."""
    where = " in this selection" if query.keys() - {"reason"} else ""
    if "reason" not in query:
        return f"There are no {'comments' if comments else 'labels'}{where or ' yet'}."
    there = ", ".join(ticked[:MOST_REASONS]) + (", …" if len(ticked) > MOST_REASONS else "")
    given = f"given{where} were {there}" if ticked else f"none was given{where or ' yet'}"
    return f"Nothing was given with the reason {query['reason']!r}{where}; {given}."


def who_said(label: Object) -> tuple[str | None, str, str]:
    """When a label was given, to whom, and what it says."""
    if label["kind"] == "rating":
        return ago(label["created"]), label["policy"], label["rating"]
    both, winner = label["policies"], label["winner"]
    known = winner in both and both["a"] != both["b"]  # else its side tells all there is
    said = f"{winner}: {both[winner]}" if known else winner
    return ago(label["created"]), f"{both['a']}, {both['b']}", said


def _show_reply(screen: Screen, reply: Object) -> None:
    facts = (
        reply["policy"],
        stamp(reply["created"]),
        many(reply["completion_tokens"], "token"),
        FINISHES.get(reply["finish_reason"], reply["finish_reason"]),
        reply["metadata"].get("tag"),
        reply["pair_id"] and f"one of {reply['pair_id']}",
    )
    screen.say(", ".join(str(fact) for fact in facts if fact))
    _show_messages(screen, reply)
    _show_words(screen, reply["policy"], reply["reply"])
    _show_said(screen, reply["ratings"])


def _show_pair(screen: Screen, pair: Object) -> None:
    screen.say(f"{'A blind pair' if pair['blind'] else 'A pair'}, {stamp(pair['created'])}")
    if asked := pair["a"] or pair["b"]:
        _show_messages(screen, asked)
    for side in ("a", "b"):
        reply = pair[side] or {"policy": "not logged", "reply": None}
        _show_words(screen, f"{side.upper()}, {reply['policy']}", reply["reply"])
    _show_said(screen, pair["data"])


def _show_messages(screen: Screen, reply: Object) -> None:
    if reply["messages"] is None:
        screen.say("This was asked for with store: false: its text was not kept.")
    for message in reply["messages"] or ():
        _show_words(screen, str(message.get("role")), _text(message.get("content")))


def _show_words(screen: Screen, who: str, words: str | None) -> None:
    told = "[dim]no text was kept[/dim]" if words is None else escape(words)
    screen.console.print(f"[bold]{escape(who)}[/bold]{_beside(told, '  ')}", soft_wrap=True)


def _beside(words: str, gap: str) -> str:
    """What stands behind a name: of several lines all below it and alike, so that a list stays one."""
    return f"{gap}{words}" if "\n" not in words else "\n" + indent(words, "    ")


def _show_said(screen: Screen, said: Iterable[Object]) -> None:
    """Ratings of a reply, or choices of a pair."""
    for label in said:
        strength = label.get("strength")
        facts = (
            f"thumb {label['rating']}" if "rating" in label else f"chosen: {label['winner']}",
            strength and f"strength {strength:g}",
            ", ".join(label["reasons"]),
            ago(label["created"]),
            f"by {label['rater']}",
        )
        screen.say("\n" + "; ".join(str(fact) for fact in facts if fact))
        for name in ("comment", "correction"):
            if words := label.get(name):
                screen.say(f"  {name}:{_beside(words, ' ')}")


def _text(content: Any) -> str | None:
    """A message is text, or a list of parts of which some are text."""
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(
        part["text"]
        if isinstance(part, dict) and isinstance(part.get("text"), str)
        else json.dumps(part, ensure_ascii=False)
        for part in parts
    )
