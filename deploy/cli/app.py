"""The `thumbwheel` command: a client of the HTTP API, and of the scripts that start and stop the service.

It exits with 0 if what was asked was done, 1 if not, 2 for a wrong command line. `update` and `jobs watch`
exit with 3 for a job that was skipped for want of data.
"""

import os
from enum import StrEnum
from typing import Annotated

import typer

from deploy.cli.chat import Talk, converse
from deploy.cli.feedback import export, feedback_app
from deploy.cli.importing import import_file
from deploy.cli.jobs import jobs_app, watch
from deploy.cli.keys import keys_app
from deploy.cli.learning import learning_app
from deploy.cli.plots import plots
from deploy.cli.release import release_app
from deploy.cli.session import AsJson, Commands, Limit, MaybeWhy, Session, Why
from deploy.cli.words import traffic
from deploy.client import ROOT, ClientError, Object
from deploy.demo.report import show_report
from deploy.demo.run import Plan, run_demo
from serving.methods import Method


class Kind(StrEnum):
    cycle = "cycle"
    reward = "reward"
    policy = "policy"


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, help="Operate Thumbwheel: chat, rate, learn."
)
app.add_typer(jobs_app, name="jobs")
app.add_typer(feedback_app, name="feedback")
app.add_typer(learning_app, name="learning")
app.add_typer(release_app, name="release")
app.add_typer(keys_app, name="keys")

SCRIPT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
User = Annotated[str | None, typer.Option(help="Who is chatting and rating; any name.")]


@app.callback()
def connection(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The gateway. Default: what runs in THUMBWHEEL_HOME.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="API key. Default: keys/operator in THUMBWHEEL_HOME.")
    ] = None,
) -> None:
    ctx.obj = Session(url, key)


@app.command(context_settings=SCRIPT)
def up(ctx: typer.Context) -> None:
    """Start the service on this machine; options go to deploy/up (--detach: in the background)."""
    _become_script("up", ctx.args)


@app.command(context_settings=SCRIPT)
def down(ctx: typer.Context) -> None:
    """Stop what `up` started."""
    _become_script("down", ctx.args)


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Who answers, the engines, what is being learnt."""
    session: Session = ctx.obj
    with session.connect() as client:
        found, counts = client.get("/v1/status"), client.get("/v1/stats/policies")
        if as_json:
            session.screen.json(
                {"url": client.url, **found, "counts": counts["data"], "labels": counts["labels"]}
            )
        else:
            session.screen.status(client.url, found, counts)


@app.command()
def chat(
    ctx: typer.Context,
    message: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
    model: Annotated[str, typer.Option(help="`policy`, or an exact version like policy-v3.")] = "policy",
    user: User = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest reply, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0: always the likeliest word.")] = None,
    as_json: AsJson = False,
) -> None:
    """Chat, and rate the answers (/help in the conversation)."""
    session: Session = ctx.obj
    options = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
    given = {name: value for name, value in options.items() if value is not None}
    with session.connect() as client:
        talk = Talk(client, session.screen.console, given, user)
        if as_json:
            if message is None:
                raise typer.BadParameter("--json needs a message.", param_hint="MESSAGE")
            session.screen.json(client.chat([{"role": "user", "content": message}], user=user, **given))
        elif message is not None:
            talk.ask(message)
        else:
            converse(talk)


@app.command()
def versions(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Policies and reward models: aliases, lineage, how good each is."""
    session: Session = ctx.obj
    with session.connect() as client:
        aliases = client.get("/v1/policies", limit=1)
        policies, rewards = client.every("/v1/policies"), client.every("/v1/rewards")
        counts = client.get("/v1/stats/policies")
    if as_json:
        names = ("champion", "challenger", "previous", "reward")
        found = {name: aliases[name] for name in names}
        session.screen.json({"aliases": found, "policies": policies, "rewards": rewards})
        return
    session.screen.policies(policies, aliases, counts)
    session.screen.console.print()
    session.screen.rewards(rewards, aliases["reward"])


@app.command()
def update(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Option(help="cycle: the reward model, then the policy.")] = Kind.cycle,
    method: Annotated[Method | None, typer.Option(help="How the policy is optimised.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show progress until its end.")] = True,
    reason: MaybeWhy = None,
    as_json: AsJson = False,
) -> None:
    """Learn now from the feedback there is."""
    session: Session = ctx.obj
    with session.connect() as client:
        body = {"kind": kind.value, "method": method.value if method else None, "reason": reason}
        job = client.post("/v1/jobs", body)
        if wait:
            watch(session, client, job, as_json)
        elif as_json:
            session.screen.json(job)
        else:
            session.screen.say(
                f"{job['id']} is queued. `thumbwheel jobs watch {job['id']}` shows its progress."
            )


app.command("import")(import_file)
app.command()(export)
app.command()(plots)


@app.command()
def promote(
    ctx: typer.Context,
    version: Annotated[str, typer.Argument(help="The policy version that shall answer.")],
    reason: Why,
    as_json: AsJson = False,
) -> None:
    """Make a policy version the champion."""
    session: Session = ctx.obj
    with session.connect() as client:
        moved = client.post(f"/v1/policies/{version}/promote", {"reason": reason})
    _moved(session, moved, as_json)


@app.command()
def rollback(
    ctx: typer.Context,
    reason: Why,
    to: Annotated[str | None, typer.Option(help="The version to go back to. Default: the previous.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let an older policy version answer again."""
    session: Session = ctx.obj
    with session.connect() as client:
        moved = client.post("/v1/rollback", {"to": to, "reason": reason})
    _moved(session, moved, as_json)


@app.command()
def audit(ctx: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Who did what, when and why."""
    session: Session = ctx.obj
    with session.connect() as client:
        actions = client.every("/v1/audit", limit)
    session.screen.json(actions) if as_json else session.screen.audit(actions)


@app.command()
def demo(
    ctx: typer.Context,
    cycles: Annotated[int, typer.Option(min=1, help="Updates to make.")] = Plan.cycles,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all of it.")] = Plan.minutes,
    labels: Annotated[int, typer.Option(min=2, help="Labels to give before each update.")] = Plan.labels,
    method: Annotated[Method | None, typer.Option(help="How the policy is optimised.")] = None,
    seed: Annotated[int, typer.Option(help="Of the raters' and the prompts' draws.")] = Plan.seed,
    as_json: AsJson = False,
) -> None:
    """Watch it learn: simulated raters with a printed taste teach the model through the public API.

    Exits with 0 only if the champion beats policy-v0 for certain (95 %) and no request failed.
    """
    session: Session = ctx.obj
    plan = Plan(cycles, minutes, labels, method.value if method else None, seed)
    screen = session.screen
    with session.connect() as client:
        report = run_demo(client, screen.errors if as_json else screen.console, plan)
    if as_json:
        screen.json(report.as_dict())
    else:
        show_report(report, screen.console)
    raise typer.Exit(0 if report.passed else 1)


def _become_script(name: str, arguments: list[str]) -> None:
    """Go on as deploy/up or deploy/down: signals and the exit code are the script's own."""
    script = ROOT / "deploy" / name
    if not script.exists():
        raise ClientError(f"There is no {script}: `{name}` works in a clone of the repository only.")
    os.execv(script, [str(script), *arguments])


def _moved(session: Session, moved: Object, as_json: bool) -> None:
    if as_json:
        session.screen.json(moved)
        return
    session.screen.say(f"{moved['champion']} answers from now on. Previous: {moved['previous'] or 'none'}.")
    if trial := moved["trial"]:
        part = f"{traffic(trial['share'])} of the traffic"
        session.screen.say(
            f"  watch: {part} go to {trial['baseline']} for comparison."
            if trial["kind"] == "watch"
            else f"  {trial['version']} is on canary, with {part}."
        )
    for engine in moved["engines"]:
        load, probe = engine["load_seconds"], engine["probe_seconds"]
        session.screen.say(f"  {engine['url']}: loaded in {load:.2f} s, probed in {probe:.2f} s")
