"""What a trial looks like: a table a cycle, and plots over cycles and over the distance from the base."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.exam import Estimate
from tests.bench.figures import Row, gold_after, root, rows, win_rate_after
from tests.bench.trial import Trial
from workers.statistics import Interval

TARGET = 0.80
WIDTH = 220
SIZE = (11.0, 4.2)  # inches

COLUMNS = (
    "cycle",
    "champion",
    "gold",
    "win rate over v0",
    "length-matched",
    "√KL/token",
    "√KL/reply",
    "members",
    "judge",
    "gold there",
    "verdict",
    "labels",
    "minutes",
)
NOTE = (
    "gold, win rates over policy-v0 and √KL (nats) are of whoever answers after the cycle, on prompts that "
    "nobody rated; intervals are 95 %, by bootstrap over prompts. judge: its win rate, with the gate's own "
    "interval, for the cycle's candidate over the champion before; members, gold there: theirs on the same "
    "replies. minutes: labels and job, without the exam."
)


def cycle_table(trial: Trial) -> Table:
    with_phrase = trial.plan.cheats is not None
    columns = [*COLUMNS, f"“{trial.plan.phrase}”"] if with_phrase else list(COLUMNS)
    table = Table(*columns, title=escape(title(trial)), caption=NOTE, box=SIMPLE)
    for row in rows(trial):
        cells = _cells(row)
        table.add_row(*map(escape, [*cells, estimate(row.phrase)] if with_phrase else cells))
    return table


def verdicts(trial: Trial) -> str:
    """Why each candidate was accepted or not, a line each."""
    return "\n".join(f"cycle {row.cycle}: {row.verdict}" for row in rows(trial)[1:])


def stage_table(trial: Trial) -> Table:
    """Seconds of each stage of each cycle's job."""
    found = rows(trial)[1:]
    names = list(dict.fromkeys(name for row in found for name in row.seconds))
    table = Table("cycle", *map(escape, names), title="seconds of each stage", box=SIMPLE)
    for row in found:
        seconds = (row.seconds.get(name) for name in names)
        table.add_row(str(row.cycle), *(number(value, 1) for value in seconds))
    return table


def as_text(*shown: object, width: int = WIDTH) -> str:
    """What a console prints, without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for one in shown:
        console.print(one, markup=False, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def title(trial: Trial) -> str:
    found, said = trial.taste, f"{trial.plan.name}: {trial.plan.arm}"
    if not found:
        return said
    accuracy = found["pair_accuracy"]
    right = f", {accuracy:.0%} of the base's pairs decided rightly" if accuracy is not None else ""
    gold = f"gold of the base {found['mean']:.3f} ± {found['std']:.3f}"
    return f"{said}. {gold}, T {found['temperature']:.3f}{right}"


def estimate(value: Estimate | None) -> str:
    return "" if value is None else f"{value.value:.3f} {interval(value.interval)}"


def interval(bounds: Interval) -> str:
    return f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def plot_trial(trial: Trial, path: Path) -> None:
    """Gold against √KL of whole replies; members, judge and gold against √KL a token of candidates."""
    figure = Figure(figsize=SIZE, layout="constrained")
    left, right = figure.subplots(1, 2)
    found = rows(trial)
    _champions(left, found)
    _candidates(right, found)
    figure.suptitle(trial.plan.name)
    _save(figure, path)


def plot_arms(arms: Mapping[str, Sequence[Trial]], path: Path) -> None:
    """Gold and win rate after each cycle: an arm's mean over seeds, and the band from its lowest to its
    highest."""
    figure = Figure(figsize=SIZE, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, trials in arms.items():
        last = max((len(trial.cycles) for trial in trials), default=0)
        gold = [_values([gold_after(trial, n) for trial in _reaching(trials, n)]) for n in range(last + 1)]
        wins = [
            _values([win_rate_after(trial, n) for trial in _reaching(trials, n)]) for n in range(last + 1)
        ]
        _band(left, gold, name)
        _band(right, wins, name)
    right.axhline(TARGET, color="grey", linestyle=":", linewidth=1)
    for axes, what in ((left, "gold score, mean"), (right, "win rate over policy-v0")):
        axes.set_xlabel("cycle")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(what)
        axes.grid(alpha=0.3)
    if left.lines:
        left.legend(fontsize="small")
    _save(figure, path)


def _cells(row: Row) -> list[str]:
    judge = number(row.judge)
    if row.judge_interval is not None:
        judge += f" {interval(row.judge_interval)}"
    return [
        f"{row.cycle}, no labels" if row.plateau else str(row.cycle),
        row.champion,
        estimate(row.gold),
        estimate(row.win_rate),
        estimate(row.matched),
        number(root(row.kl_token)),
        number(root(row.kl_reply), 2),
        number(row.members),
        judge,
        number(row.gold_there),
        row.fate,
        str(row.labels),
        number(row.minutes, 1),
    ]


def _champions(axes: Axes, found: Sequence[Row]) -> None:
    first = {row.champion: row for row in reversed(found)}  # where each came to answer
    points = [(root(row.kl_reply), row.gold, row.cycle) for row in sorted(first.values(), key=_cycle_of)]
    known = [(x, gold, cycle) for x, gold, cycle in points if x is not None and gold is not None]
    if known:
        xs, ys = [x for x, _, _ in known], [gold.value for _, gold, _ in known]
        spread = [
            [gold.value - gold.interval[0] for _, gold, _ in known],
            [gold.interval[1] - gold.value for _, gold, _ in known],
        ]
        axes.errorbar(xs, ys, yerr=spread, marker="o", capsize=3)
        for x, gold, cycle in known:
            axes.annotate(str(cycle), (x, gold.value), textcoords="offset points", xytext=(5, 5))
    axes.set_xlabel("√KL to the base, nats a reply")
    axes.set_ylabel("gold score of the champion (cycle at the point)")
    axes.grid(alpha=0.3)


def _cycle_of(row: Row) -> int:
    return row.cycle


def _candidates(axes: Axes, found: Sequence[Row]) -> None:
    series: list[tuple[str, str, Callable[[Row], float | None]]] = [
        ("members", "tab:green", lambda row: row.members),
        ("judge", "tab:blue", lambda row: row.judge),
        ("gold", "tab:orange", lambda row: row.gold_there),
    ]
    for name, color, rate in series:
        for fate in ("accepted", "rejected"):
            points = [(row.candidate_kl, rate(row)) for row in found if row.fate == fate]
            _points(axes, points, f"{name}, {fate}", color, full=fate == "accepted")
    axes.axhline(0.5, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("√KL of the candidate to the base, nats a token")
    axes.set_ylabel("win rate over the champion before")
    if axes.collections:
        axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _points(
    axes: Axes, points: Sequence[tuple[float | None, float | None]], name: str, color: str, full: bool
) -> None:
    """Those that are known, at the root of the first; hollow where not `full`."""
    known = [(math.sqrt(max(0.0, kl)), rate) for kl, rate in points if kl is not None and rate is not None]
    if not known:
        return
    axes.scatter(
        [x for x, _ in known],
        [y for _, y in known],
        color=color,
        facecolors=color if full else "none",
        label=name,
    )


def _band(axes: Axes, values: Sequence[Sequence[float]], name: str) -> None:
    cycles = [n for n, found in enumerate(values) if found]
    if not cycles:
        return
    (line,) = axes.plot(cycles, [fmean(values[n]) for n in cycles], marker="o", label=name)
    low, high = [min(values[n]) for n in cycles], [max(values[n]) for n in cycles]
    axes.fill_between(cycles, low, high, color=line.get_color(), alpha=0.2)


def _reaching(trials: Sequence[Trial], cycle: int) -> list[Trial]:
    return [trial for trial in trials if len(trial.cycles) >= cycle]


def _values(estimates: Sequence[Estimate | None]) -> list[float]:
    return [found.value for found in estimates if found is not None]


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)
