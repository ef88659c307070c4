"""What people think, as the dashboard has it: its figures at a glance, and what it draws as tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from rich.markup import escape

from deploy.cli.labels import who_said
from deploy.cli.show import Screen
from deploy.cli.table import show_table
from deploy.cli.volume import volume_rows
from deploy.cli.words import ago, day, interval, many, number, share, stamp
from deploy.client import Object

EMPTY = """\
No feedback yet. It comes from `thumbwheel chat` and the chat page, from POST /v1/feedback of your product,
from data that you have (`thumbwheel import FILE`), and from simulated raters (`thumbwheel demo`)."""
MOST_LISTED = 8


class Part(StrEnum):
    glance = "glance"
    versions = "versions"
    matrix = "matrix"
    reasons = "reasons"
    rewards = "rewards"
    champions = "champions"
    volume = "volume"
    raters = "raters"
    comments = "comments"


# What one sees who names no part, and so many rows of it: it is to fit on one screen.
BRIEF: dict[Part, slice] = {
    Part.glance: slice(None),
    Part.versions: slice(-8, None),
    Part.reasons: slice(5),
    Part.comments: slice(3),
}


@dataclass(frozen=True, slots=True)
class Sheet:
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    prose: tuple[str, ...] = ()
    least: tuple[str, ...] = ()
    none: str | None = None  # said where there are no rows, if not what is said of all


def show(screen: Screen, found: Object, parts: tuple[Part, ...] = ()) -> None:
    """Some parts of `GET /v1/stats/dashboard`, whole; without any, a summary."""
    if not sum(found["known"]["sources"].values()):
        screen.say(EMPTY)
        return
    for place, part in enumerate(parts or BRIEF):
        if part is Part.glance:
            _show_glance(screen, found)
            continue
        sheet = SHEETS[part](found)
        if not sheet.rows and not parts:
            continue
        if place:
            screen.say("")
        screen.console.print(f"[bold]{escape(sheet.title)}[/bold]", soft_wrap=True)
        some = slice(None) if parts else BRIEF[part]
        _show_sheet(screen, sheet, some, "in the selection" if _narrowed(found) else "yet")
    if not parts and screen.console.is_terminal:
        rest = ",".join(part for part in Part if part not in BRIEF)
        screen.console.print(f"\n[dim]More: --show {rest}, or --all[/dim]", soft_wrap=True)


def _narrowed(found: Object) -> bool:
    return found["since"] is not None or any(found["filters"].values())


def _show_sheet(screen: Screen, sheet: Sheet, some: slice, where: str) -> None:
    if not sheet.rows:
        screen.say(sheet.none or f"Nothing of this {where}.")
        return
    rows = sheet.rows[some]
    show_table(screen.console, sheet.columns, rows, prose=sheet.prose, least=sheet.least)
    if rest := len(sheet.rows) - len(rows):
        screen.console.print(f"[dim]… and {rest:,} more, with --all[/dim]", soft_wrap=True)


def _show_glance(screen: Screen, found: Object) -> None:
    sums = found["totals"]
    for sentence in (*_unknown(found), *_time(found)):
        screen.say(sentence)
    thumbs = f"{many(sums['up'], 'thumb')} up, {sums['down']:,} down"
    screen.say(
        f"{many(sums['labels'], 'label')}: {thumbs}, {many(sums['comparisons'], 'choice')}. "
        f"Rated: {share(sums['response_rate']) or 'none'} of {many(sums['completions'], 'reply', 'replies')}."
    )
    if marks := found["marks"]:
        last = marks[-1]
        screen.say(f"The champion changed {ago(last['time'])}, by a {last['kind']}: {_moved(last)}.")
    screen.say("")
    columns = ("figure", "share", "of", "note")
    show_table(screen.console, columns, _shares(found), prose=("note",))


def _unknown(found: Object) -> Iterator[str]:
    """What was asked for and is not there, with what is."""
    asked, known = found["filters"], found["known"]
    if missed := [version for version in asked["versions"] if version not in known["versions"]]:
        yield f"There is no feedback on {', '.join(missed)}; there is on {_listed(known['versions'])}."
    if asked["tag"] is not None and asked["tag"] not in known["tags"]:
        yield f"No figures are kept of the tag {asked['tag']!r}; they are of {_listed(known['tags'])}."


def _listed(names: list[str]) -> str:
    """The last of many."""
    return ("…, " if len(names) > MOST_LISTED else "") + (", ".join(names[-MOST_LISTED:]) or "none")


def _time(found: Object) -> Iterator[str]:
    """What was asked for came to whole hours or days."""
    since, until = found["since"], found["until"]
    if since is None:
        return
    if found["unit"] == "day":
        first, last = day(since), day(until - 1)
        yield f"Of {first}, a UTC day." if first == last else f"From {first} to {last}, whole UTC days."
    else:
        yield f"From {stamp(since)[:-3]} to {stamp(until)[:-3]}."


def _shares(found: Object) -> list[tuple[object, ...]]:
    sums, sides, raters = found["totals"], found["sides"], found["raters"]
    left = sides["left_interval"]
    thumbs, choices = many(sums["up"] + sums["down"], "thumb"), many(sums["comparisons"], "choice")
    replies = many(sums["completions"], "reply", "replies")
    blind = many(sides["left"] + sides["right"], "blind choice")
    by_people = f"{many(raters['labels'], 'label')} by people"
    return [
        ("thumbs up", interval(sums["approval"], sums["approval_interval"]), thumbs, None),
        ("replies rated", interval(sums["response_rate"], sums["response_interval"], 1), replies, None),
        ("ties", interval(sums["tie_share"], sums["tie_interval"]), choices, None),
        ("both bad", interval(sums["both_bad_share"], sums["both_bad_interval"]), choices, None),
        ("left side chosen", interval(sides["left_share"], left), blind, _bias(left)),
        ("given by the loudest ten", share(raters["share"]), by_people, _whose(found)),
        *_agreement(found["rewards"]),
    ]


def _whose(found: Object) -> str | None:
    """Raters are counted by days alone, whatever else is asked for."""
    narrowed = any(found["filters"].values())
    notes = ("all versions and tags" * narrowed, "by whole days" * (found["since"] is not None))
    return ", ".join(filter(None, notes)) or None


def _bias(bounds: list[float] | None) -> str | None:
    """Sides are shuffled: who reads both chooses left half of the time."""
    return "surely not half" if bounds and not bounds[0] <= 0.5 <= bounds[1] else None


def _agreement(rewards: Object) -> Iterator[tuple[object, ...]]:
    """Of the live reward model, else of the newest."""
    live = [reward for reward in rewards["data"] if reward["reward"] == rewards["live"]]
    for reward in live or rewards["data"][-1:]:
        agrees = interval(reward["pair_accuracy"], reward["pair_accuracy_interval"])
        pairs = many(reward["pairs"] or 0, "held-out pair")
        yield f"{reward['reward']} agrees with people", agrees, pairs, _of_thumbs(reward)


def _of_thumbs(reward: Object) -> str | None:
    """Pairs may go well where thumbs do not."""
    if (auroc := reward["thumb_auroc"]) is None:
        return None
    below = ": below chance" if auroc < 0.5 else ""
    return f"AUROC {number(auroc)} of {many(reward['thumbs'] or 0, 'thumb')}{below}"


def _versions(found: Object) -> Sheet:
    strengths = {row["policy"]: row for row in found["strengths"]}
    rows: list[tuple[object, ...]] = [
        (
            row["policy"],
            interval(row["approval"], row["approval_interval"]),
            row["up"] + row["down"],
            interval(row["response_rate"], row["response_interval"], 1),
            row["completions"],
            _strength(strengths.get(row["policy"])),
        )
        for row in found["policies"]
    ]
    columns = ("policy", "thumbs up", "thumbs", "rated", "replies", "strength")
    title = "Versions (strength: log odds against an average one)"
    return Sheet(title, columns, rows, least=("replies", "thumbs"))


def _strength(row: Object | None) -> str | None:
    if row is None or row["value"] is None:
        return None
    low, high = row["interval"] or (row["value"], row["value"])
    return f"{row['value']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _matrix(found: Object) -> Sheet:
    versions = found["matrix"]["versions"]
    cells = {(cell["policy"], cell["against"]): cell for cell in found["matrix"]["cells"]}
    rows: list[tuple[object, ...]] = [
        (policy, *(_won(cells.get((policy, against))) for against in versions)) for policy in versions
    ]
    title = "Who beats whom: how often the row was preferred to the column (a tie: half; *: surely not even)"
    over = tuple(f"over {version}" for version in versions)
    return Sheet(title, ("policy", *over), rows, least=over, none=_uncompared(found))


def _uncompared(found: Object) -> str | None:
    """Why no version beats another."""
    if count := found["totals"]["comparisons"]:
        were = "the choice was" if count == 1 else f"all {count:,} choices were"
        return f"Two versions have to be compared first: {were} of one version against itself."
    return None if _narrowed(found) else "No choices yet. Two versions have to be compared first."


def _won(cell: Object | None) -> str | None:
    if cell is None or cell["win_rate"] is None:
        return None
    low, high = cell["win_interval"]
    surely = "" if low <= 0.5 <= high else "*"
    return f"{share(cell['win_rate'])}{surely} of {cell['wins'] + cell['losses'] + cell['ties']:,}"


def _reasons(found: Object) -> Sheet:
    rows: list[tuple[object, ...]] = [
        (
            row["reason"],
            row["total"],
            row.get("up", 0) + row.get("chosen", 0),
            row.get("down", 0) + row.get("both_bad", 0),
            row.get("tie", 0),
        )
        for row in found["reasons"]
    ]
    return Sheet("Reasons", ("reason", "times", "for", "against", "with ties"), rows)


def _rewards(found: Object) -> Sheet:
    rewards = found["rewards"]
    rows: list[tuple[object, ...]] = [
        (
            row["reward"],
            "live" if row["reward"] == rewards["live"] else None,
            interval(row["pair_accuracy"], row["pair_accuracy_interval"]),
            row["pairs"],
            number(row["thumb_auroc"]),
            row["thumbs"],
        )
        for row in rewards["data"]
    ]
    columns = ("reward", "alias", "ordered as people did", "pairs", "thumbs' AUROC", "thumbs")
    return Sheet("Does the reward model agree with people? 50 % of pairs are chance", columns, rows)


def _champions(found: Object) -> Sheet:
    rows: list[tuple[object, ...]] = [
        (stamp(mark["time"]), mark["kind"], _moved(mark), mark["who"], mark["why"]) for mark in found["marks"]
    ]
    title = f"When the champion changed{_drawn(found)}"
    columns = ("when", "kind", "change", "by", "why")
    none = "It did not change in this time."
    return Sheet(title, columns, rows, prose=("why",), least=("by",), none=none)


def _moved(mark: Object) -> str:
    return f"{mark['from'] or 'none'} → {mark['to']}"


def _volume(found: Object) -> Sheet:
    head, rows = volume_rows(found["volume"], found["unit"], found["marks"])
    title = f"Volume{_drawn(found)}: █ thumbs up, ▒ down, ░ choices"
    columns = (head, "labels", "up", "down", "choices", "replies", "champion")
    return Sheet(title, columns, rows, least=("replies", "labels"))


def _drawn(found: Object) -> str:
    return ", last 30 days" if found["since"] is None else ""


def _raters(found: Object) -> Sheet:
    rows: list[tuple[object, ...]] = [
        (row["rater"], row["labels"], share(row["share"])) for row in found["raters"]["loudest"]
    ]
    title = "Loudest raters, of people's labels on all versions and tags"
    return Sheet(title, ("rater", "labels", "share"), rows)


def _comments(found: Object) -> Sheet:
    rows: list[tuple[object, ...]] = [(*who_said(label), label["comment"]) for label in found["comments"]]
    return Sheet("Comments", ("when", "policy", "said", "comment"), rows, prose=("comment",))


SHEETS: dict[Part, Callable[[Object], Sheet]] = {
    Part.versions: _versions,
    Part.matrix: _matrix,
    Part.reasons: _reasons,
    Part.rewards: _rewards,
    Part.champions: _champions,
    Part.volume: _volume,
    Part.raters: _raters,
    Part.comments: _comments,
}
