"""Learning from pairs: of sampled replies (online_dpo), and of what people chose (dpo)."""

import random
from typing import Any

from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_config import DPOConfig

from workers.labels import newest
from workers.methods.round import Made, NothingToLearn, Round
from workers.packing import Reply
from workers.policy import data as policy_data
from workers.policy.trainers import SampledDPO
from workers.stage import StageError


def online_dpo(work: Round) -> Made:
    pairs = policy_data.best_and_worst(work.data, work.config.pairs)
    theirs = people_rows(work, work.config.people)
    if not pairs and not theirs:
        raise NothingToLearn("no prompt has two replies of different reward: there is nothing to prefer")
    work.refer_cheaply_to(sorted({row for pair in pairs for row in pair}))
    data = work.data
    rows = [
        preference_row(work.reply(best), work.reply(worst), data.reference[best], data.reference[worst])
        for best, worst in pairs
    ]
    return _preference_trainer(work, rows + theirs), {"pairs": len(rows), "people": len(theirs)}


def dpo(work: Round) -> Made:
    rows = people_rows(work, len(work.labels))
    if not rows:
        raise StageError("people have not chosen between two answers yet; dpo learns from comparisons alone")
    return _preference_trainer(work, rows), {"pairs": len(rows)}


def people_rows(work: Round, count: int) -> list[dict[str, Any]]:
    """People's `count` newest comparisons."""
    if count == 0:
        return []
    choices = [label for label in work.labels if label.kind == "comparison" and label.target != 0.5]
    found = policy_data.preferences(newest(choices, count), work.tokens, work.config.seed)[-count:]
    base = work.base([reply for pair in found for reply in (pair.chosen, pair.rejected)])
    return [
        preference_row(pair.chosen, pair.rejected, base[2 * number], base[2 * number + 1])
        for number, pair in enumerate(found)
    ]


def _preference_trainer(work: Round, rows: list[dict[str, Any]]) -> SampledDPO:
    random.Random(work.config.seed).shuffle(rows)
    chosen = work.config.chosen_weight
    trainer = SampledDPO(
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=DPOConfig(
            **work.arguments(),
            per_device_train_batch_size=max(1, min(work.config.pace.batch // 2, len(rows))),
            num_train_epochs=work.config.epochs,
            beta=work.config.pace.beta,
            loss_type=["sigmoid", "sft"] if chosen else ["sigmoid"],
            loss_weights=[1.0, chosen] if chosen else [1.0],
            max_length=None,
        ),
    )
    trainer.precompute_ref_logps = True  # they are in the rows
    return trainer


def preference_row(
    chosen: Reply, rejected: Reply, base_chosen: Tensor, base_rejected: Tensor
) -> dict[str, Any]:
    return {
        "prompt": "",  # TRL looks for it; the ids below are what counts
        "prompt_ids": chosen.prompt,
        "chosen_ids": chosen.tokens,
        "rejected_ids": rejected.tokens,
        "ref_chosen_logps": float(base_chosen.sum()),
        "ref_rejected_logps": float(base_rejected.sum()),
    }
