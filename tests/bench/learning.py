"""Does it learn what people like? A hidden taste, raters who know only the HTTP API, and the policy's gain by
the hidden taste.

    python -m tests.bench.learning --scorer length sentiment format mixture --seeds 0 1 2 --out results
    python -m tests.bench.learning --scorer format --seeds 1 2 --until 0.8 --out results
    python -m tests.bench.learning --scorer length --seeds 0 1 2 --noise 0.25 --out results
    python -m tests.bench.learning --scorer length --cheats --out results
    python -m tests.bench.learning --scorer length --cheats --no-caps --out results
    python -m tests.bench.learning --scorer format --flaw --cycles 3 --out results
    python -m tests.bench.learning --scorer length --plateau 10 --evaluate-every 2 --out results
    python -m tests.bench.learning --scorer mixture --method rloo --settings POLICY_K=4 --tag k4 --out results
    python -m tests.bench.learning --report results

Each scorer and seed is a trial on a stack of its own, one after the other: the exam of policy-v0 on 84
prompts that nobody rates, then in each cycle 128 votes (half thumbs, half blind pairs), a job, and the exam
of whoever answers then. The service never sees a gold score: gold.py has the scores, raters.py how votes are
drawn from them, attacks.py the cheats and how a flaw is planted with feedback alone. The temperature T of
votes is 0.5 standard deviations of the base's gold score, at which about 80 % of the base's unequal pairs are
decided rightly.

`--until` ends the labels with the first exam at that win rate or above, which so is a little too high: chance
had a say in when it was reached.

OUT/<trial>.json holds everything, all exam replies included, and is rewritten after each cycle; beside it
stand the table as text and the plots. A trial that is whole already is not run again, unless --again; one
that was cut off goes on with --resume, where its home was kept (--homes), and begins anew without.
`--report OUT` reads the records, draws arms together and prints what was reached beside the targets. Nothing
is asserted. Ctrl-C stops the stack and keeps what there is.
"""

import argparse
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from deploy.client import Client, find_key, find_url
from deploy.demo.prompts import EXAMINED
from feedback.settings import PREFIX
from tests.bench.curves import as_text, cycle_table, plot_arms, plot_trial, stage_table, verdicts
from tests.bench.experiment import Experiment
from tests.bench.options import arguments, plans_of
from tests.bench.targets import findings, grouped, markdown, summary
from tests.bench.trial import Plan, Trial, read_trials
from tests.e2e.stack import Stack
from tests.servers import free_port

NO_CAPS = {"THUMBWHEEL_RATER_CAP": "1"}


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__)
    args = parser.parse_args(words)
    console = Console(soft_wrap=True)
    if args.report is not None:
        console.print(report(args.report), markup=False, highlight=False)
        return
    try:
        plans = plans_of(args)
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, _end)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="thumbwheel-bench-") as folder:
        homes = args.homes or Path(folder)
        for plan in plans:
            attempt(plan, args, homes, console)
    console.print(report(args.out), markup=False, highlight=False)


def attempt(plan: Plan, args: argparse.Namespace, homes: Path, console: Console) -> None:
    """One trial, unless it is there already. Whatever fails in it does not take the others along."""
    path = args.out / f"{plan.name}.json"
    found = Trial.read(path) if path.exists() and not args.again else None
    if found is not None and found.finished:
        console.print(f"{plan.name} is there already.", markup=False)
        return
    trial = found if args.resume and found else Trial(plan, list(EXAMINED[: plan.exam_prompts]))
    if trial.plan != plan:
        console.print(f"{plan.name} was planned otherwise: give the same options, or --again.", markup=False)
        return

    def saved() -> None:
        trial.write(args.out)
        draw(trial, args.out)

    try:
        with service(plan, args.stack, homes, args.homes is not None, trial is found) as (client, home):
            Experiment(client, home, trial, console, args.patience, saved).run()
    except (KeyboardInterrupt, SystemExit):
        trial.error = "ended from outside"
        raise
    except Exception as error:
        trial.error = f"{type(error).__name__}: {error}"
        console.print(traceback.format_exc(), markup=False)
    finally:
        saved()
        console.print((args.out / f"{plan.name}.txt").read_text(), markup=False, highlight=False)


@contextmanager
def service(
    plan: Plan, running: Path | None, homes: Path, keep: bool, resumed: bool
) -> Iterator[tuple[Client, Path]]:
    """A client of a stack of its own, and the stack's home; or of the one that runs in `running`."""
    if running is not None:
        with Client(find_url(running), find_key(running)) as client:
            yield client, running
        return
    home = homes / plan.name if resumed else fresh_home(homes, plan.name)
    stack = Stack(home, free_port(), variables_of(plan))
    try:
        stack.up()
        with Client(stack.url, stack.key) as client:
            yield client, home
    finally:
        stack.down()
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


def fresh_home(homes: Path, name: str) -> Path:
    """An empty home; all of them share the folder of models, so that the base is prepared once."""
    models = homes / "models"
    models.mkdir(parents=True, exist_ok=True)
    home = homes / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(models.resolve())
    return home


def _end(*_: object) -> None:
    """As on Ctrl-C: what is open is closed, and the stack stopped."""
    raise SystemExit(128 + signal.SIGTERM)


def variables_of(plan: Plan) -> dict[str, str]:
    """The service's settings: the seed, the plan's own, and the caps taken away where it says so."""
    return {f"{PREFIX}SEED": str(plan.seed), **({} if plan.caps else NO_CAPS), **plan.variables}


def draw(trial: Trial, out: Path) -> None:
    """The table and the plots beside the record."""
    (out / f"{trial.plan.name}.txt").write_text(
        as_text(cycle_table(trial), verdicts(trial), stage_table(trial))
    )
    plot_trial(trial, out / f"{trial.plan.name}-kl.png")
    plot_arms({trial.plan.name: [trial]}, out / f"{trial.plan.name}.png")


def report(out: Path) -> str:
    """All trials of a folder: a row each, and the targets. Writes report.md, and a plot for each scorer."""
    trials = read_trials(out)
    if not trials:
        return f"There is no record of a trial in {out}."
    text = f"{summary(trials)}\n\n{markdown(findings(trials))}\n"
    (out / "report.md").write_text(text)
    for name, some in grouped(trials, lambda trial: trial.plan.scorer):
        arms = dict(grouped(some, lambda trial: replace(trial.plan, seed=0).name.removesuffix("-seed0")))
        plot_arms(arms, out / f"arms-{Plan(name).name.removesuffix('-seed0')}.png")
    return text


if __name__ == "__main__":
    main()
