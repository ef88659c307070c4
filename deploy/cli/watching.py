"""What is shown anew every few seconds, in its place, until Ctrl-C."""

import io
import time
from collections.abc import Callable

from rich.live import Live
from rich.text import Text

from deploy.cli.show import Screen
from deploy.cli.table import SafeConsole
from deploy.cli.words import stamp
from deploy.client import ClientError, Object, Refused

EVERY = 3.0  # seconds


def watch(screen: Screen, look: Callable[[], Object], draw: Callable[[Screen, Object], None]) -> None:
    """Returns at Ctrl-C. A service that restarts is waited for; what it refuses is raised."""
    seen, said = Text("Counting …"), ""
    with Live(seen, console=screen.console, auto_refresh=False) as live:
        try:
            while True:
                try:
                    seen, said = _drawn(screen, look(), draw), f"As of {stamp(time.time())}; Ctrl-C ends it."
                except ClientError as error:
                    if isinstance(error, Refused) and error.status < 500:
                        raise
                    said = f"Not up to date: {error}"
                live.update(Text.assemble((said, "dim"), "\n\n", seen), refresh=True)
                time.sleep(EVERY)
        except KeyboardInterrupt:
            return


def _drawn(screen: Screen, found: Object, draw: Callable[[Screen, Object], None]) -> Text:
    """What is printed, as text that can be put in the place of other text."""
    out, there = io.StringIO(), screen.console
    paper = Screen()
    paper.console = SafeConsole(
        file=out,
        force_terminal=True,
        width=there.width,
        color_system=there.color_system,  # type: ignore[arg-type]
        highlight=False,
    )
    draw(paper, found)
    return Text.from_ansi(out.getvalue())
