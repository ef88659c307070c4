"""The learning bench's command line: from options to plans, one a scorer and seed."""

import argparse
from dataclasses import fields, replace
from pathlib import Path

from deploy.demo.prompts import EXAMINED
from feedback.settings import PREFIX
from tests.bench.gold import SCORERS, scorer
from tests.bench.trial import Plan

CHEATS = (0.05, 0.3)  # shares of raters and of votes


def plans_of(args: argparse.Namespace) -> list[Plan]:
    """One a scorer and seed. ValueError where options do not fit together."""
    for name in args.scorer:
        scorer(name)
    if args.cheats is not None and args.flaw is not None:
        raise ValueError("--cheats and --flaw are two experiments: give one of them")
    if args.stack is not None and len(args.scorer) * len(args.seeds) > 1:
        raise ValueError("a running stack keeps what it learnt: give it one scorer and one seed")
    if args.stack is not None and (args.settings or not args.caps):
        raise ValueError("a running stack has its settings: --settings and --no-caps need a stack of its own")
    if args.resume and args.stack is None and args.homes is None:
        raise ValueError("--resume goes on in the homes that a trial was cut off in: say where, with --homes")
    if args.resume and args.again:
        raise ValueError("--resume goes on with a trial, --again begins it anew: give one of them")
    if args.cheats and len(args.cheats) != 2:
        raise ValueError("--cheats takes two shares, of raters and of votes, or none")
    cheats = None if args.cheats is None else tuple(args.cheats or CHEATS)
    made = {
        "scorer": args.scorer[0],
        "seed": args.seeds[0],
        "cheats": None if cheats is None else (cheats[0], cheats[1]),
        "variables": dict(map(variable, args.settings)),
    }
    told = {field.name: getattr(args, field.name) for field in fields(Plan) if field.name not in made}
    plan = Plan(**made, **told)
    return [replace(plan, scorer=name, seed=seed) for name in args.scorer for seed in args.seeds]


def variable(text: str) -> tuple[str, str]:
    """KEY=VALUE, with or without the prefix. ValueError for anything else."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--settings takes KEY=VALUE, not {text!r}")
    key = key.upper()
    return (key if key.startswith(PREFIX) else PREFIX + key), value


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--report", type=Path, metavar="OUT", help="only print what the trials in OUT reached")
    add("--out", type=Path, default=Path("learning"), help="where the records go (default: learning)")
    add("--scorer", nargs="+", default=["mixture"], help=f"{', '.join(SCORERS)} or phrase:WORD, one or more")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--cycles", type=int, default=5)
    add(
        "--until", type=float, metavar="WIN", help="win rate over policy-v0 after which nobody rates any more"
    )
    add("--plateau", type=int, default=0, help="further cycles without labels: policy jobs alone")
    add("--method", help="how the policy is optimised; default: the service's own")
    add("--settings", nargs="+", default=[], metavar="KEY=VALUE", help="of the service: any THUMBWHEEL_…")
    add("--tag", help="goes into the names of the records, for what the other options do not tell")
    add("--again", action="store_true", help="run a trial that is whole already once more")
    add("--resume", action="store_true", help="go on with trials that were cut off, in their homes (--homes)")
    _rater_arguments(parser)
    _attack_arguments(parser)
    add("--exam-prompts", type=int, default=len(EXAMINED))
    add("--exam-replies", type=int, default=2, help="to each prompt")
    add("--evaluate-every", type=int, default=1, metavar="N", help="cycles from exam to exam")
    add("--patience", type=float, default=60.0, help="minutes after which a job is cancelled")
    add("--stack", type=Path, metavar="HOME", help="use the stack that runs in this home")
    add("--homes", type=Path, help="keep the stacks' homes there; default: temporary")
    return parser


def _rater_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("raters").add_argument
    add("--labels", type=int, default=128, help="votes a cycle")
    add("--thumbs", type=float, default=0.5, help="share of votes that are thumbs; the rest are blind pairs")
    add("--noise", type=float, default=0.0, help="share of honest votes that are flipped")
    add("--raters", type=int, default=60)
    add("--leniency", type=float, default=0.5, help="spread of the raters' own offsets, logits")
    add("--temperature", type=float, default=0.5, help="T in standard deviations of the base's gold score")
    add(
        "--standard",
        choices=("base", "champion"),
        default="base",
        help="a thumb is as likely up as down at this one's mean gold",
    )


def _attack_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("attacks").add_argument
    add(
        "--cheats",
        type=float,
        nargs="*",
        metavar="SHARE",
        help="cheats vote for --phrase: their shares of raters and of votes (default: 0.05 0.3)",
    )
    add(
        "--phrase",
        default="however",
        help="a word that the base uses now and then (however: 8 %% of replies)",
    )
    add("--no-corrections", dest="corrections", action="store_false", help="cheats only vote")
    add("--no-caps", dest="caps", action="store_false", help="switch the service's caps on weights off")
    add(
        "--flaw",
        nargs="?",
        const="?",
        metavar="CLOSING",
        help="the members learn to love replies that end with it (default: ?, 3 %% of the base's)",
    )
    add("--flaw-share", type=float, default=1.0, help="of the members' labels that say so")
