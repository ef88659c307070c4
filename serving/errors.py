"""Everything that can be wrong in serving.

ServingError
├── BadRequest          the body cannot be used; says why
├── UnknownModel        no such model, or one that is not loaded
├── UnknownVersion      no such policy or reward version
├── UnknownPlot         a version without this plot
├── UnknownJob          no such job
├── UnknownStage        a job without this stage, or whose folder this gateway cannot see
├── UnknownKey          no such key (operators' key management)
├── Unauthorized        no key, or a wrong one
├── Forged              a browser was made to send it by another site, or by a page that is too old
├── Conflict            it cannot be done now; says what stands in the way
├── LeaseLost           a worker whose lease went to another, or ran out
├── NoEngine            no engine can answer just now
└── TooLarge            the body is larger than allowed
"""


class ServingError(Exception):
    """`param` names the field of the request that is to blame."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BadRequest(ServingError):
    pass


class UnknownModel(ServingError):
    pass


class UnknownVersion(ServingError):
    pass


class UnknownPlot(ServingError):
    pass


class UnknownJob(ServingError):
    pass


class UnknownStage(ServingError):
    pass


class UnknownKey(ServingError):
    pass


class Unauthorized(ServingError):
    pass


class Forged(ServingError):
    pass


class Conflict(ServingError):
    pass


class LeaseLost(ServingError):
    pass


class NoEngine(ServingError):
    pass


class TooLarge(ServingError):
    pass
