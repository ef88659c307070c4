import pytest
import torch

from workers.tone import SCALES, Tone, with_tone

POLES = " ".join(pole for pair in SCALES.values() for pole in pair)
WORDS = [*sorted(set(POLES.split())), "fine", "foul"]


class Words:
    """A tokenizer of one token a word."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [WORDS.index(text.strip())]


@pytest.fixture
def tone() -> Tone:
    """`fine` lies near the good words and `foul` near the bad ones."""
    chance = torch.Generator().manual_seed(0)
    embeddings = torch.randn(len(WORDS), 64, generator=chance)
    good, bad = (
        embeddings[[WORDS.index(word) for word in pole.split()]].mean(0) for pole in SCALES["evaluation"]
    )
    embeddings[WORDS.index("fine")] = good * 4
    embeddings[WORDS.index("foul")] = bad * 4
    return Tone(Words(), embeddings)


def evaluation(places) -> torch.Tensor:
    return torch.tensor(places)[..., list(SCALES).index("evaluation")]


def test_words_lie_between_the_ends_of_a_scale(tone):
    fine, foul = ([WORDS.index(word)] for word in ("fine", "foul"))
    assert evaluation(tone(fine)) > 0.4
    assert evaluation(tone(foul)) < -0.4
    assert len(tone(fine)) == len(SCALES)
    assert evaluation(tone(fine + foul)) == pytest.approx(
        float(evaluation(tone(fine)) + evaluation(tone(foul))) / 2, abs=1e-6
    )


def test_a_reply_on_its_way_sounds_as_what_stands_there(tone):
    reply = [WORDS.index(word) for word in ("fine", "the", "foul")]
    found = tone.so_far(reply)
    assert found.shape == (4, len(SCALES))
    assert found[0].tolist() == [0.0] * len(SCALES)
    for end in range(4):
        torch.testing.assert_close(found[end], torch.tensor(tone(reply[:end])))
    assert with_tone([[1.0], [2.0], [3.0]], tone, reply)[1] == [2.0, *found[1].tolist()]


def test_no_words_have_no_tone(tone):
    assert tone([]) == [0.0] * len(SCALES)
