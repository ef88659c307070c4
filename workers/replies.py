"""What replies look like, whatever they say: shares that show when a model has become a broken record. No
torch."""

from collections.abc import Callable, Sequence

from workers.labels import Sample

WINDOW = 3  # words


def mean_words(samples: Sequence[Sample]) -> float:
    return sum(len(sample.reply.split()) for sample in samples) / len(samples)


def empty(samples: Sequence[Sample]) -> float:
    """The share of replies that are blank."""
    return sum(not sample.reply.strip() for sample in samples) / len(samples)


def cut(samples: Sequence[Sample]) -> float:
    """The share of replies that ended for want of tokens."""
    return sum(sample.finish_reason == "length" for sample in samples) / len(samples)


def identical(samples: Sequence[Sample]) -> float:
    """The share of replies that another prompt got too, word for word; blank ones count as `empty` alone."""
    return _shared(samples, lambda reply: reply.strip() or None)


def openings(samples: Sequence[Sample]) -> float:
    """The share of replies whose first three words begin a reply to another prompt too."""
    return _shared(samples, lambda reply: _edge(reply, slice(None, WINDOW)))


def endings(samples: Sequence[Sample]) -> float:
    """The share of replies whose last three words end a reply to another prompt too."""
    return _shared(samples, lambda reply: _edge(reply, slice(-WINDOW, None)))


def repeated_trigrams(samples: Sequence[Sample]) -> float:
    """The mean share of a reply's runs of three words that stood in it before; 0 for shorter replies."""
    return sum(_repeated(sample.reply.lower().split()) for sample in samples) / len(samples)


def _repeated(words: list[str]) -> float:
    runs = [tuple(words[i : i + WINDOW]) for i in range(len(words) - WINDOW + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _edge(reply: str, part: slice) -> str | None:
    """Three words without their punctuation, or None for a reply that has no more than those."""
    words = [word.strip(".,;:!?\"'()*-").lower() for word in reply.split()]
    return " ".join(words[part]) if len(words) > WINDOW else None


def _shared(samples: Sequence[Sample], key_of: Callable[[str], str | None]) -> float:
    """The share of replies whose key, if any, a reply to another prompt has as well."""
    keys = [key_of(sample.reply) for sample in samples]
    prompts_of: dict[str | None, set[int]] = {}
    for key, sample in zip(keys, samples, strict=True):
        prompts_of.setdefault(key, set()).add(sample.prompt_id)
    return sum(key is not None and len(prompts_of[key]) > 1 for key in keys) / len(samples)
