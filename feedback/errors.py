"""Everything that can be wrong with feedback.

FeedbackError
├── UnknownCompletion    no such completion, or it is not logged
├── UnknownPair          no such pair
├── ExpiredPair          it was there, but its time is over
├── AnsweredPair         a blind pair whose versions have been shown: no choice of it is blind any more
├── NotComparable        two completions that cannot be compared with each other
├── NoRating             this rater has not rated this completion
├── NoBeginning          a stretch of time that has an end alone
└── TooManyOpen          as many dashboards as one gateway keeps up to date are open
"""


class FeedbackError(Exception):
    """`param` names the field of the request that is to blame."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownCompletion(FeedbackError):
    pass


class UnknownPair(FeedbackError):
    pass


class ExpiredPair(FeedbackError):
    pass


class AnsweredPair(FeedbackError):
    pass


class NotComparable(FeedbackError):
    pass


class NoRating(FeedbackError):
    pass


class NoBeginning(FeedbackError):
    pass


class TooManyOpen(FeedbackError):
    pass
