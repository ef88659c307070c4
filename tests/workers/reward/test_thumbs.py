import random

import pytest
import torch

from workers.labels import Label
from workers.reward.thumb_scale import ThumbScale, mean_scale, read_thumbs, write_thumbs
from workers.reward.thumbs import Thumbs


def thumb(rater: str, up: bool, weight: float = 1.0) -> Label:
    return Label("thumb", [], "a", None, float(up), rater=rater, weight=weight)


def fitted(labels: list[Label], r: torch.Tensor | None = None) -> tuple[Thumbs, dict[str, float]]:
    thumbs = Thumbs([label.rater for label in labels], ThumbScale())
    thumbs.fit(labels, torch.zeros(len(labels)) if r is None else r, 0.0)
    names = sorted({label.rater for label in labels})
    return thumbs, dict(zip(names, thumbs.u.tolist(), strict=True))


def test_it_starts_where_the_live_version_stands():
    thumbs = Thumbs(["ann", "bob"], ThumbScale(0.7, -0.4))
    assert (thumbs.scale.a, thumbs.scale.b) == (pytest.approx(0.7), pytest.approx(-0.4))
    assert thumbs.u.tolist() == [0.0, 0.0]


def test_a_raters_offset_grows_with_what_is_known_of_him():
    """All of few and all of many thumbs are up; the other raters are in two minds."""
    rest = [thumb(f"r{number}", number % 2 == 0) for number in range(200)]
    _, offsets = fitted([thumb("few", True), *(thumb("many", True) for _ in range(30)), *rest])
    assert 0.1 < offsets["few"] < 0.8
    assert offsets["many"] > 1.2


def test_it_finds_what_the_thumbs_were_drawn_with():
    dice = random.Random(0)
    r = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    lenient = [number % 40 for number in range(4000)]
    offset = [dice.gauss(0, 1) for _ in range(40)]
    chance = [torch.sigmoid(1.5 * x - 0.5 + offset[n]).item() for x, n in zip(r, lenient, strict=True)]
    rows = [thumb(f"r{n:02}", dice.random() < p) for n, p in zip(lenient, chance, strict=True)]
    thumbs, offsets = fitted(rows, r)
    assert thumbs.scale.a == pytest.approx(1.5, abs=0.2)
    assert thumbs.scale.b == pytest.approx(-0.5 + sum(offset) / 40, abs=0.3)
    found = torch.tensor([list(offsets.values()), offset])
    assert torch.corrcoef(found)[0, 1] > 0.9


def test_weights_count_and_comparisons_are_passed_over():
    loud, quiet = [thumb("a", True, 3.0)] * 20, [thumb("b", False, 1.0)] * 20
    thumbs, _ = fitted([*loud, *quiet, Label("comparison", [], "a", "b", 1.0, rater="c")])
    assert thumbs.scale.b > 0.1
    alone = Thumbs(["c"], ThumbScale(0.9, 0.2))
    alone.fit([Label("comparison", [], "a", "b", 1.0, rater="c")], torch.zeros(1), 0.0)
    assert alone.scale.b == pytest.approx(0.2)


def test_the_scale_is_kept_and_one_that_is_missing_is_plain(tmp_path):
    write_thumbs(tmp_path, {"member-0": ThumbScale(0.5, 0.25)})
    found = read_thumbs(tmp_path, ["member-0", "judge"])
    assert found == {"member-0": ThumbScale(0.5, 0.25), "judge": ThumbScale(1.0, 0.0)}
    assert read_thumbs(tmp_path / "none", ["warm"]) == {"warm": ThumbScale()}
    assert mean_scale(list(found.values())) == ThumbScale(0.75, 0.125)
