"""Text of other people for a terminal: what would steer the terminal, or turn round what is read, is shown as
an escape instead."""

import re

# Control characters of C0 and C1 but newline and tab; the overrides and isolates of bidirectional text.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""`\x1b` and the like for each control character. Twice is as good as once."""
    return _STEERING.sub(_escape, text.replace("\r\n", "\n"))


def visible_json(text: str) -> str:
    """The same for JSON, which stays what it means: in it these stand in strings alone."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
