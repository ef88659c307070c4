"""What is on trial, as the operations page has it: the lead, evidence for and against, both arms, guards."""

import time
from collections.abc import Callable

from rich.console import Console

from deploy.cli.table import show_table
from deploy.cli.words import ago, many, share, span, traffic
from deploy.client import Object

Row = tuple[str, str | None]


def trial_rows(trial: Object, decides: Object) -> list[Row]:
    """What it is, and what raters have made of it."""
    minority = trial["version"] if trial["kind"] == "canary" else trial["baseline"]
    left = span(max(0.0, trial["ends"] - time.time()))
    rows: list[Row] = [
        (trial["kind"], f"{trial['version']} beside {trial['baseline']}, since {ago(trial['started'])}"),
        ("share", f"{minority} has {traffic(trial['share'])} of the traffic, for {left} more"),
    ]
    if trial["asks"]:
        rows.append(("asks", f"{trial['asks']} Promote it, or abort."))
    if not (found := trial["evidence"]):
        return [*rows, ("verdict", "nothing was measured yet")]
    better, worse, enough = map(evidence, (found["better"], found["worse"], decides["raters"]))
    return [
        *rows,
        ("verdict", f"{found['outcome']}: {found['reason']}"),
        ("lead", _lead(found)),
        ("evidence", f"better {better}, worse {worse}; decided at {enough}, however often one looks"),
        ("likely", f"{found['probability']:.0%} that its approval is higher (shown, not decided on)"),
        ("looked", ago(found["looked"])),
    ]


def show_arms(console: Console, trial: Object, decides: Object) -> None:
    """What raters said of either version, and what guards found of its replies."""
    if not (found := trial["evidence"]):
        return
    wins, losses, ties = found["pairs"]
    rows = [
        (trial["version"], *_thumbs(found["challenger"]), f"{wins:,}", f"{ties:,}"),
        (trial["baseline"], *_thumbs(found["champion"]), f"{losses:,}", f"{ties:,}"),
    ]
    console.print()
    show_table(console, ("raters", "thumbs up", "down", "up", "pairs won", "tied"), rows)
    enough = evidence(decides["guards"])
    columns = ("guard", trial["version"], trial["baseline"], "borne", "evidence", "state")
    console.print()
    show_table(console, columns, [_guard(guard, enough) for guard in found["guards"]], least=("borne",))


def evidence(value: float) -> str:
    """An e-value; they run over many powers of ten."""
    if value >= 1e6:
        return "over a million"
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.2g}'):g}"


def _lead(found: Object) -> str:
    if found["lead"] is None:
        return f"too few raters have spoken to tell: {found['raters']:,}"
    lead, low, high = map(_points, (found["lead"]["lead"], *found["interval"]))
    return f"{lead} points, surely between {low} and {high}; {many(found['raters'], 'rater')}"


def _thumbs(arm: list[int]) -> tuple[str, str, str | None]:
    up, down = arm
    return f"{up:,}", f"{down:,}", share(up / (up + down)) if up + down else None


def _points(value: float) -> str:
    """A difference of two shares."""
    return f"{100 * value:+.1f}"


def _guard(guard: Object, enough: str) -> tuple[str, ...]:
    figure, borne = GUARDS.get(guard["name"], (_plain, _plain))
    arms = (figure(guard[arm]) for arm in ("challenger", "champion"))
    said = f"{evidence(guard['evidence'])} of {enough}"
    state = "tripped" if guard["tripped"] else "quiet"
    return (guard["name"], *arms, borne(guard["tolerance"]), said, state)


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _tokens(value: float) -> str:
    return f"{value:.0f} tokens"


def _plain(value: float) -> str:
    return f"{value:.2f}"


def _points_more(tolerance: float) -> str:
    return f"{100 * tolerance:.0f} points more"


def _more(tolerance: float) -> str:
    return f"{tolerance:.0%} more"


def _less(tolerance: float) -> str:
    """As low a part of the other's as the other may be high."""
    return f"{1 - 1 / (1 + tolerance):.0%} less"


# How each guard's figures are written, and what its tolerance means.
GUARDS: dict[str, tuple[Callable[[float], str], Callable[[float], str]]] = {
    "broken replies": (_percent, _points_more),
    "refusals": (_percent, _points_more),
    "time to first token": (lambda seconds: f"{seconds:.2f} s", _more),
    "longer replies": (_tokens, _more),
    "shorter replies": (_tokens, _less),
}
