"""`thumbwheel chat`: a conversation in a terminal, with thumbs and blind pairs."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from deploy.client import Client, ClientError, Object

HELP = """\
/up [COMMENT]      the last reply was good
/down [COMMENT]    the last reply was bad
/pair [QUESTION]   two replies side by side, to QUESTION or to the last one; you choose
/new               start a new conversation
/quit              leave (so does Ctrl-D)"""
CHOICES = {"a": "a", "b": "b", "t": "tie", "n": "both_bad"}


@dataclass
class Talk:
    """One conversation: its messages so far, and the last reply's id, if it can be rated."""

    client: Client
    console: Console
    options: Object
    user: str | None = None
    messages: list[Object] = field(default_factory=list)
    last: str | None = None

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
        self.last = completion_id
        self.console.print(f"[dim]{model}  {completion_id}[/dim]", soft_wrap=True)

    def rate(self, thumb: str, comment: str) -> None:
        if self.last is None:
            self._print("There is no reply to rate yet.")
            return
        body = {"completion_id": self.last, "rating": thumb, "comment": comment or None, "user": self.user}
        answer = self.client.post("/v1/feedback", body)
        self._print(f"Thanks: thumb {thumb} for {answer['policy']}.")

    def pair(self, question: str, choose: Callable[[str], str]) -> None:
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
            winner = choose("Which is better? a, b, t (tie) or n (neither): ").strip().lower()[:1]
        verdict = {"pair_id": pair["id"], "winner": CHOICES[winner], "user": self.user}
        answer = self.client.post("/v1/comparisons", verdict)
        self._print(f"Thanks. A was {answer['a']['policy']}, B was {answer['b']['policy']}.")
        kept = winner if winner in replies else "a"
        self.messages = [*asked, {"role": "assistant", "content": replies[kept]}]
        self.last = answer[kept]["completion_id"]

    def new(self) -> None:
        self.messages, self.last = [], None
        self._print("A new conversation.")

    def _asked_for_pair(self, question: str) -> list[Object]:
        if question:
            return [*self.messages, {"role": "user", "content": question}]
        return self.messages[:-1]

    def _print(self, text: str, end: str = "\n") -> None:
        self.console.print(text, end=end, markup=False, soft_wrap=True)


def converse(talk: Talk, read: Callable[[str], str] = input) -> None:
    """Read lines and act on them until /quit or the end of input. What the service refuses is said."""
    talk.console.print("[dim]Say something; /help lists what else there is.[/dim]")
    while True:
        try:
            line = read("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            talk.console.print()
            return
        if line == "/quit":
            return
        if line:
            _act(talk, line, read)


def _act(talk: Talk, line: str, read: Callable[[str], str]) -> None:
    command, _, rest = line.partition(" ")
    actions: dict[str, Callable[[], None]] = {
        "/up": lambda: talk.rate("up", rest.strip()),
        "/down": lambda: talk.rate("down", rest.strip()),
        "/pair": lambda: talk.pair(rest.strip(), read),
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
