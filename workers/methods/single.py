"""Learning from single replies: people's thumbs (kto), and the best of what was sampled (best_of_n)."""

import random

from datasets import Dataset
from trl.trainer.kto_config import KTOConfig
from trl.trainer.sft_config import SFTConfig

from workers.methods.round import Made, NothingToLearn, Round
from workers.packing import IGNORED, Reply
from workers.policy import data as policy_data
from workers.policy.trainers import SampledKTO, SampledSFT
from workers.stage import StageError


def kto(work: Round) -> Made:
    found = policy_data.thumbs(work.labels, work.tokens, work.config.seed)
    ups = sum(thumb.up for thumb in found)
    downs = len(found) - ups
    if not ups or not downs:
        raise StageError(f"kto needs thumbs up and down; there are {ups} up and {downs} down")
    random.Random(work.config.seed).shuffle(found)
    size = max(2, min(work.config.pace.batch, len(found)))
    found += found[: -len(found) % size]  # whole batches: the first ones again
    others = [
        found[first + (place - 1) % size].reply.tokens
        for first in range(0, len(found), size)
        for place in range(size)
    ]
    mixed = [Reply(thumb.reply.prompt, other) for thumb, other in zip(found, others, strict=True)]
    base, base_mixed = work.base([thumb.reply for thumb in found]), work.base(mixed)
    rows = [
        {
            "prompt": "",
            "prompt_ids": thumb.reply.prompt,
            "completion_ids": thumb.reply.tokens,
            "KL_completion_ids": other,
            "label": thumb.up,
            "ref_logps": float(base[number].sum()),
            "ref_KL_logps": float(base_mixed[number].sum()),
        }
        for number, (thumb, other) in enumerate(zip(found, others, strict=True))
    ]
    up, down = kto_weights(ups, downs)
    trainer = SampledKTO(
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=KTOConfig(
            **work.arguments(),
            per_device_train_batch_size=size,
            num_train_epochs=work.config.epochs,
            beta=work.config.pace.beta,
            desirable_weight=up,
            undesirable_weight=down,
            max_length=None,
        ),
    )
    trainer.precompute_ref_logps = True  # they are in the rows
    return trainer, {"thumbs": len(found), "thumbs_up": ups}


def kto_weights(ups: int, downs: int) -> tuple[float, float]:
    """Of thumbs up and down, so that both sides weigh the same in total (arXiv 2402.01306, eq. 8)."""
    return (max(1.0, downs / max(ups, 1)), max(1.0, ups / max(downs, 1)))


def best_of_n(work: Round) -> Made:
    best = policy_data.best_of(work.data)
    if not best:
        raise NothingToLearn("no prompt has two replies of different reward: none is the best")
    rows = []
    for row in best:
        reply = work.reply(row)
        ids = [*reply.prompt, *reply.tokens]
        rows.append({"input_ids": ids, "labels": [IGNORED] * len(reply.prompt) + reply.tokens})
    trainer = SampledSFT(
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            **work.arguments(),
            per_device_train_batch_size=max(1, min(work.config.pace.batch, len(rows))),
            num_train_epochs=work.config.epochs,
            max_length=None,
        ),
    )
    return trainer, {"best": len(rows)}
