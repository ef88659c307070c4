"""Sums that are kept: of each look the same as if all were added up anew."""

import random

from feedback import sums
from feedback.sums import Sums


def added_up(hashes: dict[int, dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for counts in hashes.values():
        for name, count in counts.items():
            found[name] = found.get(name, 0) + count
    return found


def test_whatever_changes_it_is_the_sum_of_what_is_there():
    """Hours that get more and fewer, that lose fields or come to have some, and times that move on."""
    dice, kept = random.Random(0), Sums()
    hashes: dict[int, dict[str, int]] = {}
    for _ in range(300):
        hashes = dict(hashes)
        for hour in dice.sample(range(10), dice.randint(0, 3)):
            match dice.choice(["count", "new", "lose", "go"]):
                case "count":
                    hashes[hour] = {**hashes.get(hour, {}), "up": dice.randint(-3, 9)}
                case "new":
                    hashes[hour] = {**hashes.get(hour, {}), dice.choice("abc"): 1}
                case "lose":
                    hashes[hour] = dict(list(hashes.get(hour, {}).items())[1:])
                case "go":
                    hashes.pop(hour, None)
        assert kept.of("hours", hashes) == added_up(hashes)


def test_only_what_changed_is_added():
    class Read(dict[str, int]):
        times = 0

        def items(self):  # type: ignore[no-untyped-def]
            Read.times += 1
            return super().items()

    kept, hashes = Sums(), {hour: Read(up=hour) for hour in range(100)}
    assert kept.of("all", hashes) == {"up": 4950}
    Read.times = 0
    assert kept.of("all", {**hashes, 7: Read(up=8, down=1)}) == {"up": 4951, "down": 1}
    assert Read.times == 1


def test_what_was_handed_out_stays_as_it_was():
    kept, one = Sums(), {1: {"up": 1}}
    first = kept.of("all", one)
    kept.of("all", {1: {"up": 5}})
    assert first == {"up": 1}


def test_the_stretches_that_were_asked_for_last_are_kept(monkeypatch):
    monkeypatch.setattr(sums, "MOST", 2)
    kept, one = Sums(), {1: {"up": 1}}
    for name in ("a", "b", "a", "c"):
        kept.of(name, one)
    assert list(kept._kept) == ["a", "c"]
