"""Who looks at a page: the person in a signed-in browser, beside the key that the browser speaks for."""

from dataclasses import dataclass

from fastapi import Request


@dataclass(frozen=True, slots=True)
class Visitor:
    """`user` is the opaque id that ratings carry; `csrf` proves that a write comes from our own page."""

    name: str
    user: str
    csrf: str


def visitor_of(request: Request) -> Visitor | None:
    """None where nobody is signed in: on the sign-in page, or where a key came in a header."""
    visitor: Visitor | None = request.scope.get("visitor")
    return visitor
