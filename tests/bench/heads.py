"""Which frozen layers should a reward model's head read? Torch.

    python -m tests.bench.heads --out OUT [--scorer sentiment format] [--seeds 0 1 2] [--labels 128 256]
                                [--layers 7 4+14] [--noise 0.25]

Labels and replies are those of `tests.bench.rewards`. What each layer makes of them is read once and kept in
OUT. Heads are fitted as the service fits them, but no adapters are trained, so that a draw takes seconds.
`4+14` reads what comes out of the fourth and of the fourteenth layer, 0 the embeddings. Shown is Pearson's r
of reward and gold among eight replies to each of 84 other prompts, mean ± standard error over seeds, of

    members      by the members' labels
    alone        a judge by its own
    judge        a judge for whom the members' labels have a say in how wide looks spread, as the service's
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import AutoModel

from deploy.demo.prompts import EXAMINED
from tests.bench.choices import HELD, PROMPTS, arguments, base_samples, first_of_each, opened
from tests.bench.gold import scorer
from tests.bench.rewards import Measured, mean_and_error
from tests.bench.simulated import poll
from workers.datasets import by_learner
from workers.labels import Label, Sample
from workers.reward.model import Features, padded, running_mean
from workers.reward.style import Head, Scale, features
from workers.reward.trainer import LabelFeatures, Training, fit_heads, flat
from workers.stages.train_reward import Config, of_unit_weight

BATCH = 16
TRAINING = Training(**{field.name: Config.model_fields[field.name].default for field in fields(Training)})

Floats = NDArray[np.float32]


def main() -> None:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--scorer", nargs="+", default=["sentiment", "format", "length", "mixture"])
    add("--seeds", type=int, nargs="+", default=list(range(12)))
    add("--labels", type=int, nargs="+", default=[128, 256])
    add("--layers", nargs="+", default=["7", "14", "4+14"])
    add("--noise", type=float, default=0.0, help="share of labels that are flipped")
    args = parser.parse_args()
    settings, out = opened(args)
    samples = base_samples(settings, out)
    states = kept_states(settings.model, samples, out / "states.npy")
    table = Table("labels", "layers", "members", "alone", "judge")
    for name in args.scorer:
        for count in args.labels:
            for layers in args.layers:
                read = np.concatenate([states[:, int(layer)] for layer in layers.split("+")], 1)
                found = [correlations(samples, read, name, count, seed, args.noise) for seed in args.seeds]
                cells = (mean_and_error(column) for column in zip(*found, strict=True))
                table.add_row(f"{name}, {count}", layers, *cells)
    Console(soft_wrap=True).print(table)


def kept_states(model: str, samples: Sequence[Sample], path: Path) -> Floats:
    if not path.exists():
        np.save(path, read_states(model, samples))
    found: Floats = np.load(path)
    return found


@torch.no_grad()
def read_states(model: str, samples: Sequence[Sample]) -> Floats:
    """What heads would read of each sample, by each layer: (n, layers + 1, hidden)."""
    base = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    texts = [torch.tensor([*row.prompt_token_ids, *row.token_ids]) for row in samples]
    order = sorted(range(len(samples)), key=lambda row: len(texts[row]))
    found: list[Floats] = [np.empty(0, np.float32)] * len(samples)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        ids, mask = padded([texts[row] for row in rows])
        views = base(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        for number, row in enumerate(rows):
            reply = slice(len(samples[row].prompt_token_ids) - 1, len(texts[row]))
            mean = running_mean([view[number, reply] for view in views])[-1]
            found[row] = mean.reshape(len(views), -1).numpy()
    return np.stack(found)


def correlations(
    samples: Sequence[Sample], read: Floats, name: str, count: int, seed: int, noise: float = 0.0
) -> tuple[float, float, float]:
    """Of one draw of labels: the members', the judge's alone, and the judge's."""
    asked = poll(samples, name, seed, noise)
    known = {(row.messages[-1]["content"], row.reply): number for number, row in enumerate(samples)}
    looks = [
        Features(torch.empty(0), 1, features(row.reply, row.finish_reason), torch.from_numpy(seen)[None])
        for row, seen in zip(samples, read, strict=True)
    ]
    judges, members = map(of_unit_weight, by_learner(asked.labels(asked.votes(count))))
    theirs, his = (_features(labels, known, looks) for labels in (members, judges))
    held = first_of_each(samples, range(PROMPTS, PROMPTS + len(EXAMINED)), HELD)
    score = scorer(name)
    measured = Measured([samples[row] for row in held], np.array([score(samples[row].reply) for row in held]))

    def r(
        labels: Sequence[Label], seen: LabelFeatures, others: tuple[list[Label], LabelFeatures] | None
    ) -> float:
        scale = Scale.of([reply.style for reply in flat(seen)])
        (head,) = fit_heads(labels, seen, scale, TRAINING, others=others)
        return measured(rewards(head, [looks[row] for row in held]))[1]

    return r(members, theirs, None), r(judges, his, None), r(judges, his, (members, theirs))


def _features(
    labels: Sequence[Label], known: Mapping[tuple[str, str], int], looks: Sequence[Features]
) -> LabelFeatures:
    """Honest raters correct nothing, so each reply is a sample."""
    return [
        tuple(
            looks[known[label.messages[-1]["content"], reply]]
            for reply in (label.a, label.b)
            if reply is not None
        )
        for label in labels
    ]


def rewards(head: Head, replies: Sequence[Features]) -> NDArray[np.float64]:
    """(n,)"""
    seen = np.stack([reply.seen[-1].numpy() for reply in replies])
    found: NDArray[np.float64] = head([reply.style for reply in replies]) + seen @ np.asarray(head.states)
    return found


if __name__ == "__main__":
    main()
