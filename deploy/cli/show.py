"""What people see of the service: tables for a terminal, the same facts as JSON for scripts."""

import json
from collections.abc import Iterable, Mapping

from rich.markup import escape
from rich.table import Table

from deploy.cli.audit import change
from deploy.cli.follow import doing
from deploy.cli.table import Marked, cell, console_for, show_table
from deploy.cli.trial import show_arms, trial_rows
from deploy.cli.words import ago, duration, interval, number, share, span, stamp, traffic
from deploy.client import Object
from deploy.visible import visible_json

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
        self.console, self.errors = console_for(stderr=False), console_for(stderr=True)

    def json(self, value: object) -> None:
        print(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))

    def say(self, text: str) -> None:
        """Plain text, whatever it holds: square brackets in it are no markup."""
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """The same on standard error, beside what a script reads."""
        self.errors.print(text, markup=False, soft_wrap=True)

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
        least = ("made", "KL to base", "reward", "parent")
        show_table(self.console, (*columns, "thumbs up", "made"), rows, least=least)

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
        show_table(self.console, columns, rows, least=("made", "ECE", "parent"))

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
        columns = ("job", "kind", "state", "took", "published", "by", "made", "reason")
        show_table(self.console, columns, rows, prose=("published", "reason"), least=("by", "took"))

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

    def measured(self, found: Object) -> None:
        """What a stage measured, as far as it fits into a line each."""
        metrics = found["metrics"]
        if not metrics:
            self.say(f"{found['id']} has no figures of it.")
            return
        if "accepted" in metrics:
            self.say("accepted" if metrics["accepted"] else "rejected")
            for reason in metrics.get("reasons", []):
                self.say(f"  {reason}")
        table = Table.grid(padding=(0, 2))
        for name, value in metrics.items():
            if name != "accepted" and (told := _in_a_line(value)) is not None:
                table.add_row(f"[bold]{escape(name.replace('_', ' '))}[/bold]", escape(told))
        self.console.print(table)

    def release(self, release: Object) -> None:
        rules, trial = release["rules"], release["trial"]
        undecided = f"undecided after {span(rules['canary'])}: {rules['undecided']}"
        watch = f"watched for {span(rules['watch'])} after a promotion" if rules["watch"] else "no watch"
        table = Table.grid(padding=(0, 2))
        for name, value in (
            ("rules", f"{rules['mode']}, {traffic(rules['share'])} of the traffic; {undecided}; {watch}"),
            ("pinned", "yes: nothing moves by itself" if rules["pinned"] else "no"),
            ("waiting", ", ".join(release["waiting"])),
            *(trial_rows(trial, release["decides"]) if trial else [("on trial", None)]),
        ):
            table.add_row(f"[bold]{name}[/bold]", cell(value))
        self.console.print(table)
        if trial:
            show_arms(self.console, trial, release["decides"])

    def keys(self, keys: Iterable[Object]) -> None:
        rows = [(k["id"], k["name"], k["role"], ago(k["created"]), ago(k["revoked"])) for k in keys]
        show_table(self.console, ("id", "name", "role", "made", "revoked"), rows)

    def audit(self, actions: Iterable[Object]) -> None:
        rows = [
            (stamp(a["when"]), a["who"], a["what"], change(a["before"], a["after"]), a["why"])
            for a in actions
        ]
        show_table(self.console, ("when", "who", "what", "change", "why"), rows, prose=("change", "why"))


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


def _in_a_line(value: object) -> str | None:
    """A number, an interval, or a candidate's number beside the champion's. None of what has no place in a
    line."""
    if isinstance(value, int | float | str):
        return _short(value)
    if isinstance(value, list) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value):
        return f"[{_short(value[0])}, {_short(value[1])}]"
    if isinstance(value, Mapping) and 0 < len(value) <= 8:
        parts = [(str(name), _in_a_line(part)) for name, part in value.items()]
        told = [f"{name.replace('_', ' ')} {part}" for name, part in parts if part is not None]
        return "; ".join(told) if told and len(told) == len(parts) else None
    return None
