"""What people see of the service: tables for a terminal, the same facts as JSON for scripts."""

import json
import time
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.cli_follow import doing
from deploy.client import Object

NONE = "[dim]-[/dim]"
WIDE = 400
STATE_COLOURS = {
    "done": "green",
    "running": "cyan",
    "queued": "cyan",
    "failed": "red",
    "cancelled": "yellow",
    "skipped": "yellow",
}


class Screen:
    """Where answers go: standard output. `as_json` prints the object instead of the table."""

    def __init__(self) -> None:
        self.console, self.errors = _console(stderr=False), _console(stderr=True)

    def json(self, value: object) -> None:
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def say(self, text: str) -> None:
        """Plain text, whatever it holds: square brackets in it are no markup."""
        self.console.print(text, markup=False, soft_wrap=True)

    def status(self, url: str, status: Object, counts: Object) -> None:
        table = Table.grid(padding=(0, 2))
        learning, given = status["learning"], counts["labels"]
        for name, value in (
            ("gateway", url),
            ("champion", status["champion"]),
            ("challenger", status["challenger"]),
            ("previous", status["previous"]),
            ("reward", status["reward"]),
            ("learning", "paused" if learning["paused"] else "on"),
            ("labels", f"{given} in all, {given - learning['labels']} since the last update"),
            ("updated", ago(learning["updated"])),
        ):
            table.add_row(f"[bold]{name}[/bold]", cell(value))
        for engine in status["engines"]:
            table.add_row("[bold]engine[/bold]", _engine(engine))
        for job in status["jobs"]:
            table.add_row(
                "[bold]job[/bold]", f"{job['id']}  {job['kind']}  {_state(job)}  {escape(doing(job))}"
            )
        self.console.print(table)

    def policies(self, policies: Iterable[Object], aliases: Object, counts: Object) -> None:
        thumbs = {entry["policy"]: entry for entry in counts["data"]}
        rows = []
        for version in policies:
            name, metrics = version["id"], version["metrics"]
            seen = thumbs.get(name, {})
            rows.append(
                (
                    name,
                    ", ".join(
                        alias for alias in ("champion", "challenger", "previous") if aliases[alias] == name
                    ),
                    version["parent"],
                    version["reward"],
                    interval(metrics.get("win_rate"), metrics.get("win_rate_interval")),
                    number(metrics.get("kl_base")),
                    seen.get("completions"),
                    share(seen.get("approval")),
                    ago(version["created"]),
                )
            )
        columns = ("policy", "alias", "parent", "reward", "win rate over parent", "KL to base", "replies")
        show_table(self.console, (*columns, "thumbs up", "made"), rows)

    def rewards(self, rewards: Iterable[Object], live: str | None) -> None:
        rows = []
        for version in rewards:
            metrics = version["metrics"].get("holdout", {})
            rows.append(
                (
                    version["id"],
                    "live" if version["id"] == live else None,
                    version["parent"],
                    interval(metrics.get("pair_accuracy"), metrics.get("pair_accuracy_interval")),
                    metrics.get("pairs"),
                    number(metrics.get("thumb_auroc")),
                    metrics.get("thumbs"),
                    number(metrics.get("ece")),
                    ago(version["created"]),
                )
            )
        columns = (
            "reward",
            "alias",
            "parent",
            "pair accuracy",
            "pairs",
            "thumb AUROC",
            "thumbs",
            "ECE",
            "made",
        )
        show_table(self.console, columns, rows)

    def jobs(self, jobs: Iterable[Object]) -> None:
        rows = [
            (
                job["id"],
                job["kind"],
                _state(job),
                duration(job["started"], job["finished"]),
                ", ".join(version for version in (job["reward"], job["policy"]) if version),
                job["by"],
                ago(job["created"]),
                job["reason"] if job["reason"] else doing(job) if job["state"] == "running" else None,
            )
            for job in jobs
        ]
        show_table(self.console, ("job", "kind", "state", "took", "published", "by", "made", "reason"), rows)

    def job(self, job: Object) -> None:
        table = Table.grid(padding=(0, 2))
        for name in ("id", "kind", "by", "stage", "message", "reason", "reward", "policy", "attempts"):
            table.add_row(f"[bold]{name}[/bold]", cell(job[name]))
        table.add_row("[bold]state[/bold]", f"{_state(job)} {job['progress']:.0%}")
        table.add_row("[bold]took[/bold]", cell(duration(job["started"], job["finished"])))
        for stage in job["stages"]:
            told = "  ".join(f"{key} {_short(value)}" for key, value in stage.items() if key != "name")
            table.add_row(f"[bold]{escape(str(stage.get('name', 'stage')))}[/bold]", escape(told))
        self.console.print(table)

    def release(self, release: Object) -> None:
        rules, trial = release["rules"], release["trial"]
        undecided = f"undecided after {span(rules['canary'])}: {rules['undecided']}"
        watch = f"watched for {span(rules['watch'])} after a promotion" if rules["watch"] else "no watch"
        table = Table.grid(padding=(0, 2))
        for name, value in (
            ("rules", f"{rules['mode']}, {rules['share']:.0%} of the traffic; {undecided}; {watch}"),
            ("pinned", "yes: nothing moves by itself" if rules["pinned"] else "no"),
            ("waiting", ", ".join(release["waiting"])),
            *(_trial(trial) if trial else [("on trial", None)]),
        ):
            table.add_row(f"[bold]{name}[/bold]", cell(value))
        self.console.print(table)

    def keys(self, keys: Iterable[Object]) -> None:
        rows = [(k["id"], k["name"], k["role"], ago(k["created"]), ago(k["revoked"])) for k in keys]
        show_table(self.console, ("id", "name", "role", "made", "revoked"), rows)

    def audit(self, actions: Iterable[Object]) -> None:
        rows = [
            (stamp(a["when"]), a["who"], a["what"], _change(a["before"], a["after"]), a["why"])
            for a in actions
        ]
        show_table(self.console, ("when", "who", "what", "change", "why"), rows)


def show_table(console: Console, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        # The first one is what a person copies into the next command.
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console.print(table)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = WIDE  # where no person reads there is no width to fit into: one line a row
    return console


def cell(value: object) -> str:
    if value is None or value == "":
        return NONE
    text = str(value)
    return text if isinstance(value, Marked) else escape(text)


class Marked(str):
    """Text with rich's markup in it, made here."""


def number(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def share(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"


def interval(value: float | None, bounds: Iterable[float] | None) -> str | None:
    """A share with its interval: `62% [51%, 72%]`."""
    if value is None:
        return None
    low_high = ", ".join(f"{bound:.0%}" for bound in bounds or ())
    return f"{value:.0%} [{low_high}]" if low_high else f"{value:.0%}"


def ago(when: float | None) -> str | None:
    """How long since a Unix time, in the largest unit that fits."""
    if when is None:
        return None
    seconds = max(0.0, time.time() - when)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def span(seconds: float) -> str:
    """A length of time in the largest unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} seconds"


def stamp(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def duration(started: float | None, finished: float | None) -> str | None:
    if started is None:
        return None
    seconds = (finished or time.time()) - started
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _trial(trial: Object) -> list[tuple[str, str | None]]:
    """What is on trial, and what is known of it."""
    minority = trial["version"] if trial["kind"] == "canary" else trial["baseline"]
    left = span(max(0.0, trial["ends"] - time.time()))
    rows: list[tuple[str, str | None]] = [
        (trial["kind"], f"{trial['version']} beside {trial['baseline']}, since {ago(trial['started'])}"),
        ("share", f"{minority} has {trial['share']:.0%} of the traffic, for {left} more"),
    ]
    if trial["asks"]:
        rows.append(("asks", f"{trial['asks']} Promote it, or abort."))
    if found := trial["evidence"]:
        rows.append(("verdict", f"{found['outcome']}: {found['reason']}"))
        rows += [("thumbs up", _thumbs(trial, found)), *(("guard", g["sentence"]) for g in found["guards"])]
    return rows


def _thumbs(trial: Object, found: Object) -> str:
    parts = []
    for arm, version in (("challenger", trial["version"]), ("champion", trial["baseline"])):
        up, down = found[arm]
        parts.append(f"{version} {up} of {up + down}")
    return f"{', '.join(parts)}; {found['probability']:.0%} likely to be higher (shown, not decided on)"


def _engine(engine: Object) -> str:
    if not engine["ready"]:
        return f"{escape(engine['url'])}  [red]not ready[/red]: {escape(str(engine['error']))}"
    text = f"{escape(engine['url'])}  [green]ready[/green]  {', '.join(engine['loaded'])}"
    for version, reason in engine["refused"].items():
        text += f"\n[red]refused {version}[/red]: {escape(reason)}"
    return text + (f"  {engine['inflight']} in flight" if engine["inflight"] else "")


def _state(job: Object) -> Marked:
    colour = STATE_COLOURS.get(job["state"], "default")
    return Marked(f"[{colour}]{job['state']}[/{colour}]")


def _change(before: object, after: object) -> str | None:
    if before is None and after is None:
        return None
    return _short(after) if before is None else f"{_short(before)} → {_short(after)}"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        kept = {
            key: inner
            for key, inner in value.items()
            if key in ("id", "name", "kind", "role", "revoked", "state")
        }
        return " ".join(str(inner) for inner in kept.values() if inner is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
