import io
from collections.abc import Callable

import pytest

from deploy.cli.show import Screen
from deploy.cli.table import SafeConsole
from deploy.cli.watching import watch
from deploy.client import ClientError, NotReachable, Object, Refused

STEERING = "\x1b[31mRED\x07"
Looks = list[Object | BaseException]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Looks], str]:
    """What a terminal gets of some looks, of which the last one is Ctrl-C."""
    monkeypatch.setattr("deploy.cli.watching.EVERY", 0)

    def shown(looks: Looks) -> str:
        screen, out, rest = Screen(), io.StringIO(), iter([*looks, KeyboardInterrupt()])
        screen.console = SafeConsole(file=out, force_terminal=True, width=60, height=9, color_system=None)

        def look() -> Object:
            found = next(rest)
            if isinstance(found, BaseException):
                raise found
            return found

        watch(screen, look, lambda paper, found: paper.say(found["says"]))
        return out.getvalue()

    return shown


def test_each_look_is_drawn_and_what_it_says_steers_nothing(watched):
    told = watched([{"says": "one"}, {"says": f"two {STEERING}"}])
    assert told.index("one") < told.index("two")
    assert told.count("Ctrl-C ends it.") >= 2
    assert r"two \x1b[31mRED\x07" in told
    assert not {"\x1b[31m", "\x07"} & set(told.split("RED")[0][-5:])


def test_a_service_that_restarts_is_waited_for(watched):
    told = watched([{"says": "one"}, NotReachable("Nothing answers."), Refused("busy", 503), {"says": "two"}])
    assert "Not up to date: Nothing answers." in told
    assert "Not up to date: busy" in told
    assert told.index("Not up to date: busy") < told.index("two")
    late = told[told.index("Not up to date: Nothing") :]
    assert late.index("one") < late.index("two"), "what was seen stays"


def test_what_is_refused_is_raised(watched):
    with pytest.raises(ClientError, match="wrong key"):
        watched([{"says": "one"}, Refused("wrong key", 401)])


def test_more_than_fits_is_cut_until_the_end(watched):
    told = watched([{"says": "\n".join(f"line {n}" for n in range(30))}])
    before, _, end = told.rpartition("As of")
    assert "line 3" in before
    assert "line 20" not in before
    assert "line 29" in end
