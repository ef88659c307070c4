"""`thumbwheel chat`: a conversation in a terminal, with thumbs and blind pairs."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from deploy.cli.said import REASONS, Lines, ask_why, read_said, tagged
from deploy.client import Client, ClientError, Object

HELP = f"""\
/up [#REASON …] [COMMENT]    the last reply was good
/down [#REASON …] [COMMENT]  the last reply was bad
/better TEXT                 a better reply (and a thumb down, if it has none)
/withdraw                    take back what you said of the last reply
/pair [QUESTION]             two replies to QUESTION, or to the last; you choose
/new                         start a new conversation
/quit                        leave (so does Ctrl-D)
Reasons for up: {tagged(REASONS["up"])}
Reasons for down: {tagged(REASONS["down"])}"""
NOTHING = "There is no reply to rate yet."
CHOICES = {"a": "a", "b": "b", "t": "tie", "n": "both_bad"}


@dataclass
class Talk:
    """One conversation: its messages so far, the last reply's id, if it can be rated, and how it was."""

    client: Client
    console: Console
    options: Object
    user: str | None = None
    messages: list[Object] = field(default_factory=list)
    last: str | None = None
    rating: Object = field(default_factory=dict)

    def ask(self, question: str) -> None:
        """Send a turn, print the reply as it comes, keep both. Raises ClientError, and then keeps neither."""
        asked = [*self.messages, {"role": "user", "content": question}]
        parts, completion_id, model = [], None, ""
        try:
            for chunk in self.client.stream(asked, user=self.user, **self.options):
                completion_id, model = chunk.id, chunk.model
                parts.append(chunk.text)
                self._print(chunk.text, end="")
        finally:
            self._print("")
        self.messages = [*asked, {"role": "assistant", "content": "".join(parts)}]
        self.last, self.rating = completion_id, {}
        self.console.print(f"[dim]{model}  {completion_id}[/dim]", soft_wrap=True)

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
        asked = self._asked_for_pair(question)
        if not asked:
            self._print("Ask something first, or give the question: /pair QUESTION")
            return
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
        self.messages, self.last, self.rating = [], None, {}
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

    def _asked_for_pair(self, question: str) -> list[Object]:
        if question:
            return [*self.messages, {"role": "user", "content": question}]
        return self.messages[:-1]

    def _print(self, text: str, end: str = "\n") -> None:
        self.console.print(text, end=end, markup=False, soft_wrap=True)


def converse(talk: Talk, read: Callable[[str], str] = input) -> None:
    """Read lines and act on them until /quit or the end of input. What the service refuses is said."""
    lines = Lines(read)
    talk.console.print("[dim]Say something; /help lists what else there is.[/dim]")
    while True:
        try:
            line = lines.ask("you> ")
        except (EOFError, KeyboardInterrupt):
            talk.console.print()
            return
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
