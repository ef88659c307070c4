"""The plots that belong to a version, each as `<name>.png` and `<name>.json` with what it shows. Matplotlib;
for stages and benches only.

Drawn through Agg on figures of their own: nothing is global, and no display is needed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from workers.reward.gate import Bin
from workers.stage import read_json, write_json

REWARD, TRAINING, RELIABILITY = "reward", "training", "reliability"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"  # told apart by the colour-blind too
NAMES = {  # what a training curve may hold, in this order
    "loss": "loss",
    "reward": "reward",
    "margin": "reward margin",
    "accuracy": "reward accuracy",
    "kl": "KL, nats a token",
    "nll_rise": "rise of plain text's NLL",
    "grad_norm": "gradient norm",
}


@dataclass(frozen=True)
class Point:
    """A policy `kl` nats a token from the base. `members`, `judge`: its reward above the base's, in standard
    deviations of a reply's; `gold`: by a scorer that the service does not know, in that scorer's units."""

    name: str
    kl: float
    members: float | None = None
    judge: float | None = None
    gold: float | None = None


def chained(lineage: Sequence[Mapping[str, Any]], rounds: Sequence[Mapping[str, Any]] = ()) -> list[Point]:
    """Points from `workers.history`: each version's gains over its parent, added up from the base.

    Rewards of different reward versions have no common zero, so gains are what can be added; one that was
    not measured adds nothing. `rounds` follow the version before the last, the champion that they began with.
    """
    found, sums = [], {"members": 0.0, "judge": 0.0}
    for number, row in enumerate(lineage):
        if number == len(lineage) - 1:
            found += _rounds(rounds, sums["members"])
        known = {}
        for name in sums:
            gain = row.get(name)
            sums[name] += gain or 0.0
            known[name] = sums[name] if gain is not None or number == 0 else None
        if row.get("kl") is not None:
            found.append(Point(str(row["version"]), float(row["kl"]), **known))
    return found


def _rounds(rounds: Sequence[Mapping[str, Any]], start: float) -> list[Point]:
    """The samples of each round after the first, whose policy is the champion itself."""
    whole = [row for row in rounds if None not in (row.get("kl"), row.get("reward"), row.get("std"))]
    if not whole or not whole[0]["std"]:
        return []
    first = whole[0]
    return [
        Point(f"round {number}", row["kl"], start + (row["reward"] - first["reward"]) / first["std"])
        for number, row in enumerate(whole)
        if number
    ]


def reward_curve(points: Sequence[Point], folder: Path, name: str = REWARD) -> None:
    """Reward, judge and gold against √KL (arXiv 2210.10760): where the members' curve goes on rising and the
    other bends down, the policy is over-optimised. Gold has a panel of its own, as it has a scale of its own.
    """
    gold = any(point.gold is not None for point in points)
    figure = Figure(figsize=(6.4, 6.4 if gold else 4.0), layout="constrained")
    panels = list(figure.subplots(2 if gold else 1, 1, sharex=True, squeeze=False).flat)
    _series(panels[0], points, "members", BLUE, "o", "members' mean")
    _series(panels[0], points, "judge", ORANGE, "s", "held-out judge")
    panels[0].set_ylabel("reward above the base's, std of a reply")
    panels[0].axhline(0, color=GREY, linewidth=0.8)
    _named(panels[0], points)
    panels[0].legend(loc="best")
    if gold:
        _series(panels[1], points, "gold", GREEN, "D", "gold")
        panels[1].set_ylabel("gold score")
    panels[-1].set_xlabel("√KL to the base, √(nats a token)")
    _write(figure, [{**asdict(point), "root_kl": _root(point.kl)} for point in points], folder, name)


def training_curve(curves: Sequence[Path], folder: Path) -> None:
    """What each step of the optimiser reported, round after round; nothing where there is no curve."""
    rows = [
        {**row, "round": number}
        for number, path in enumerate(curves, start=1)
        if path.exists()
        for row in read_json(path)
    ]
    shown = [key for key in NAMES if any(_is_number(row.get(key)) for row in rows)]
    if not shown:
        return
    figure = Figure(figsize=(6.4, 1.2 + 1.7 * len(shown)), layout="constrained")
    panels = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False).flat)
    begins = [step for step in range(1, len(rows)) if rows[step]["round"] != rows[step - 1]["round"]]
    for axes, key in zip(panels, shown, strict=True):
        for begin, end in pairwise([0, *begins, len(rows)]):
            steps = [step for step in range(begin, end) if _is_number(rows[step].get(key))]
            axes.plot([step + 1 for step in steps], [rows[step][key] for step in steps], ".-", color=BLUE)
        axes.set_ylabel(NAMES[key])
        axes.grid(alpha=0.3)
        for begin in begins:
            axes.axvline(begin + 0.5, color=GREY, linestyle=":")
    panels[-1].set_xlabel("step" + (" (dotted: the next round)" if begins else ""))
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    _write(figure, rows, folder, TRAINING)


def reliability(bins: Sequence[Bin], folder: Path) -> None:
    """What a reward model said against what happened (arXiv 1706.04599); the number of labels at each."""
    figure = Figure(figsize=(4.8, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8)
    filled = sorted((found for found in bins if found.count), key=lambda found: found.said)
    axes.plot([found.said for found in filled], [found.happened for found in filled], "o-", color=BLUE)
    for found in filled:
        _annotate(axes, str(found.count), found.said, found.happened)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.06), aspect="equal")
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("observed share (numbers: held-out labels)")
    _write(figure, [asdict(found) for found in bins], folder, RELIABILITY)


def redraw_reliability(folder: Path) -> None:
    """Beside `reliability.json` of a reward model, its picture; nothing where there is none."""
    path = folder / f"{RELIABILITY}.json"
    if path.exists():
        rows = read_json(path)
        reliability([Bin(row["said"], row["happened"], row["count"]) for row in rows], folder)


def _series(axes: Axes, points: Sequence[Point], what: str, colour: str, marker: str, label: str) -> None:
    known = [(point, getattr(point, what)) for point in points]
    xs = [_root(point.kl) for point, y in known if y is not None]
    ys = [y for _, y in known if y is not None]
    axes.plot(xs, ys, color=colour, marker=marker, markersize=5, label=label)
    axes.grid(alpha=0.3)


def _named(axes: Axes, points: Sequence[Point]) -> None:
    for point in points:
        heights = [y for y in (point.members, point.judge) if y is not None]
        if heights:
            _annotate(axes, point.name, _root(point.kl), max(heights))
    axes.margins(x=0.12, y=0.15)


def _annotate(axes: Axes, text: str, x: float, y: float) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color="#444444",
        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )


def _write(figure: Figure, data: object, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", data)
    FigureCanvasAgg(figure)
    figure.savefig(folder / f"{name}.png", dpi=120)


def _root(kl: float) -> float:
    """An estimate from samples may lie a little below 0."""
    return math.sqrt(max(kl, 0.0))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
