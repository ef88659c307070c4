"""The taste of the demo's raters. It is printed, never sent: the service learns of it from labels alone."""

import re

WORDS = 20
WARM = 3  # friendly touches that make a reply as friendly as can be
FRIENDLY_WORDS = (
    "absolutely amazing awesome beautiful best bright cheerful cheers congratulations dear delicious "
    "delighted delightful enjoy excellent excited exciting fantastic favorite favourite friend friendly "
    "friends fun glad good great happily happy hello help helpful hey hi hope joy kind kindly lovely "
    "love lucky nice perfect please pleased pleasure proud smile smiling sure sweet thank thankful "
    "thanks warm warmly welcome wish wonderful yes"
)
FRIENDLY = frozenset(FRIENDLY_WORDS.split())
DESCRIPTION = (
    f"about {WORDS} words, and friendly: taste = (brevity + warmth) / 2, from 0 to 1, where brevity is "
    f"{WORDS} / words or words / {WORDS}, whichever is below 1, and warmth is 1 for {WARM} friendly words "
    "(great, happy, thanks, …) or exclamation marks, less for fewer"
)


def taste(reply: str) -> float:
    """How much the raters like a reply, in [0, 1]."""
    return (brevity(reply) + warmth(reply)) / 2


def brevity(reply: str) -> float:
    """Closeness of the length to 20 words: 1 there, a half at 10 and at 40, 0 for nothing at all."""
    words = len(reply.split())
    return min(words / WORDS, WORDS / words) if words else 0.0


def warmth(reply: str) -> float:
    """Friendly words and exclamation marks, up to three of them: 0, ⅓, ⅔ or 1."""
    friendly = sum(word in FRIENDLY for word in re.findall(r"[a-z]+", reply.lower()))
    return min(friendly + len(re.findall(r"!+", reply)), WARM) / WARM
