"""How a canary decides."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`alpha`: the most that a challenger as good as the champion is promoted with, and the most it is
    aborted with. `scale`: the lead that the test is tuned to see. `correlation`: what two thumbs of one rater
    are taken to have in common, which bounds a rater's weight by 1/correlation votes. `least_raters`: below
    so many on an arm, evenly heard, thumbs are not looked at, nor pair votes of fewer; above 1. `broken` and
    `refused`: by how much the challenger's share may be higher; `first_token` and `length`: by what part its
    mean may be higher (or the length lower). `guard_alpha`: the most that one guard trips with where its
    tolerance is kept; `least_replies`: before so many on each arm guards are silent, and those on what people
    ask for before `least_groups` of them, evenly served. `deadline`: seconds.
    """

    alpha: float = 0.05
    scale: float = 0.1
    correlation: float = 0.2
    least_raters: float = 20.0
    broken: float = 0.02
    first_token: float = 0.25
    length: float = 0.5
    refused: float = 0.05
    guard_alpha: float = 0.01
    least_replies: int = 50
    least_groups: float = 20.0
    deadline: float = 7 * 86400.0
