"""`thumbwheel chat`: a conversation in a terminal, with thumbs and blind pairs."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from deploy.cli.said import REASONS, Lines, ask_why, read_said, tagged, typed
from deploy.client import Chunk, Client, ClientError, Object

HELP = f"""\
/up [#REASON …] [COMMENT]    the last reply was good
/down [#REASON …] [COMMENT]  the last reply was bad
/better TEXT                 a better reply (and a thumb down, if it has none)
/withdraw                    take back what you said of the last reply
/again                       another reply in place of the last, or one where none has come
/pair [QUESTION]             two replies to QUESTION, or to the last; you choose
/new                         start a new conversation
/quit                        leave (so do Ctrl-D, and Ctrl-C twice)
Ctrl-C                       stop a reply; what has come of it stays
Reasons for up: {tagged(REASONS["up"])}
Reasons for down: {tagged(REASONS["down"])}"""
NOTHING = "There is no reply to rate yet."
LEAVING = "Ctrl-C once more leaves, as /quit and Ctrl-D do. While a reply comes it stops it."
CHOICES = {"a": "a", "b": "b", "t": "tie", "n": "both_bad"}


@dataclass
class Talk:
    """One conversation: its messages so far, the last reply's id, if it can be rated, and how it was;
    and the messages that were sent last."""

    client: Client
    console: Console
    options: Object
    user: str | None = None
    messages: list[Object] = field(default_factory=list)
    last: str | None = None
    rating: Object = field(default_factory=dict)
    asked: list[Object] = field(default_factory=list)

    def ask(self, question: str) -> None:
        """Send a turn, print the reply as it comes, keep both. Raises ClientError, and then keeps neither;
        KeyboardInterrupt, and then keeps what has come, if any has."""
        self._ask([*self.messages, {"role": "user", "content": question}])

    def again(self) -> None:
        """Another reply to what was asked last, in place of the one it has, if any. Raises as `ask` does."""
        if self.asked:
            self._ask(self.asked)
        else:
            self._print("There is nothing to answer again. Say something first.")

    def rate(self, thumb: str, said: str) -> None:
        """The same thumb once more adds to what was said; the other one begins anew. Raises UnknownReason."""
        reasons, comment = read_said(said, REASONS[thumb])
        given = {"reasons": reasons, "comment": comment}
        before = self.rating if self.rating.get("rating") == thumb else {}
        added = {name: value for name, value in given.items() if value}
        self._rate({"correction": self.rating.get("correction"), **before, "rating": thumb, **added})

    def better(self, text: str) -> None:
        if text:
            self._rate({"rating": "down", **self.rating, "correction": text})
        else:
            self._print("Say what is better: /better TEXT")

    def withdraw(self) -> None:
        if self.last is None:
            self._print(NOTHING)
            return
        user = {} if self.user is None else {"user": self.user}
        self.client.delete(f"/v1/feedback/{self.last}", {}, **user)
        self.rating = {}
        self._print("What you said of the last reply is withdrawn.")

    def pair(self, question: str, lines: Lines) -> None:
        """Ask for two blind replies; what was chosen becomes the conversation's next turn."""
        if not question and not self.asked:
            self._print("Ask something first, or give the question: /pair QUESTION")
            return
        asked = [*self.messages, {"role": "user", "content": question}] if question else self.asked
        self.asked = asked
        pair = self.client.post("/v1/pairs", {"messages": asked, "user": self.user, **self.options})
        replies = {side: str(pair[side]["message"]["content"]) for side in ("a", "b")}
        for side, text in replies.items():
            self.console.print(f"[bold]{side.upper()}[/bold]  {escape(text)}")
        winner = ""
        while winner not in CHOICES:
            winner = lines.ask("Which is better? a, b, t (tie) or n (neither): ").lower()[:1]
        why = ask_why(CHOICES[winner], lines, self._print)
        verdict = {"pair_id": pair["id"], "winner": CHOICES[winner], "user": self.user, **why}
        answer = self.client.post("/v1/comparisons", verdict)
        self._print(f"Thanks. A was {answer['a']['policy']}, B was {answer['b']['policy']}.")
        kept = winner if winner in replies else "a"
        self.messages = [*asked, {"role": "assistant", "content": replies[kept]}]
        self.last, self.rating = answer[kept]["completion_id"], {}

    def new(self) -> None:
        self.messages, self.last, self.rating, self.asked = [], None, {}, []
        self._print("A new conversation.")

    def _rate(self, rating: Object) -> None:
        """All that is said of the last reply, in place of what was."""
        if self.last is None:
            self._print(NOTHING)
            return
        answer = self.client.post("/v1/feedback", {"completion_id": self.last, "user": self.user, **rating})
        self.rating = rating
        thanks = f"Thanks: thumb {rating['rating']} for {answer['policy']}."
        if reasons := answer["reasons"]:
            thanks += f" Reasons: {', '.join(reasons)}."
        self._print(thanks + (" With a better reply." if answer["correction"] else ""))

    def _ask(self, asked: list[Object]) -> None:
        self.asked = asked
        parts: list[Chunk] = []
        try:
            with closing(self.client.stream(asked, user=self.user, **self.options)) as chunks:
                for chunk in chunks:
                    parts.append(chunk)
                    self._print(chunk.text, end="")
        except KeyboardInterrupt:
            self._print("")
            self._keep(asked, parts, stopped=True)
            raise
        except ClientError:
            self._print("")
            raise
        self._print("")
        self._keep(asked, parts)

    def _keep(self, asked: list[Object], parts: list[Chunk], stopped: bool = False) -> None:
        """What has come is the conversation's next turn, but not a reply that was stopped before it began."""
        text = "".join(chunk.text for chunk in parts)
        if not parts or (stopped and not text):
            return
        end, how = parts[-1], "  stopped" if stopped else ""
        self.messages = [*asked, {"role": "assistant", "content": text}]
        self.last, self.rating = end.id, {}
        self.console.print(f"[dim]{end.model}  {end.id}{how}[/dim]", soft_wrap=True)

    def _print(self, text: str, end: str = "\n") -> None:
        self.console.print(text, end=end, markup=False, soft_wrap=True)


def converse(talk: Talk, read: Callable[[str], str] = typed) -> None:
    """Read lines and act on them until /quit or the end of input. What the service refuses is said."""
    lines = Lines(read)
    talk.console.print("[dim]Say something; /help lists what else there is.[/dim]")
    leaving = False
    while True:
        try:
            line = lines.ask("you> ")
        except EOFError:
            talk.console.print()
            return
        except KeyboardInterrupt:  # at once after the end of a reply that it was to stop, too
            talk.console.print()
            if leaving:
                return
            talk.console.print(f"[dim]{LEAVING}[/dim]", soft_wrap=True)
            leaving = True
            continue
        leaving = False
        if line == "/quit":
            return
        if line:
            _act(talk, line, lines)


def _act(talk: Talk, line: str, lines: Lines) -> None:
    command, _, rest = line.partition(" ")
    actions: dict[str, Callable[[], None]] = {
        "/up": lambda: talk.rate("up", rest.strip()),
        "/down": lambda: talk.rate("down", rest.strip()),
        "/better": lambda: talk.better(rest.strip()),
        "/withdraw": talk.withdraw,
        "/again": talk.again,
        "/pair": lambda: talk.pair(rest.strip(), lines),
        "/new": talk.new,
        "/help": lambda: talk.console.print(HELP, markup=False),
    }
    try:
        if command in actions:
            actions[command]()
        elif command.startswith("/"):
            talk.console.print(f"There is no {command}.\n{HELP}", markup=False)
        else:
            talk.ask(line)
    except ClientError as error:
        talk.console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
    except (EOFError, KeyboardInterrupt):
        talk.console.print()
