"""The reward model: the lower part of the base, and a LoRA adapter with a scalar head a member. Torch; for
stages only.

What an adapter says is the mean over the reply's tokens of a linear read-out of a middle layer, not the
read-out of the last token of the last layer; r(x, y) is that and what a head makes of the reply
(workers.reward.style). It reads the mean states of an early layer, which tell words, and of the last one
below the adapters, which tells more of what they mean (tests/bench/heads.py). The upper layers need not run
at all. One layer with the adapter, trained for three passes, was as good as three layers for six
(workers.stages.train_reward).

The layers below the adapters are frozen and shared, so they run once a reply, whatever the number of members
and epochs. They read the whole prompt; the layers with adapters see what those made of the reply and of the
prompt's last tokens, so a long conversation costs them nothing. What is saved is a PEFT adapter of task type
SEQ_CLS with its head.
"""

import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from workers.device import device, precision
from workers.frozen import Passthrough
from workers.labels import Message
from workers.reward import style
from workers.reward.style import Head, read_head

JUDGE = "judge"
CONTEXT = 32
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def member_names(members: int) -> list[str]:
    return [f"member-{number}" for number in range(members)]


@dataclass(frozen=True)
class Text:
    """Token ids of a prompt and a reply; the reply begins at `first` and looks like `style`."""

    ids: list[int]
    first: int
    style: list[float] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Features:
    """What the frozen layers make of the end of a text: `states` (length, hidden), where the reply begins at
    `first`, after at most `CONTEXT` tokens of the prompt. `style`: how the reply looks. `seen`: what heads
    read, see `running_mean`, of the whole reply (1, d), or of all its beginnings too (tokens + 1, d)."""

    states: Tensor
    first: int
    style: list[float] = field(default_factory=list)
    seen: Tensor = field(default_factory=lambda: torch.zeros(1, 0))


class Texts:
    """Turns messages and replies into what a reward model reads."""

    def __init__(self, base_model: str, max_prompt: int, max_reply: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base_model)
        self._max_prompt, self._max_reply = max_prompt, max_reply

    def of_reply(self, messages: list[Message], reply: str, finish: str) -> Text:
        prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return self.of_ids(
            cast(list[int], prompt), self.tokenizer.encode(reply, add_special_tokens=False), finish
        )

    def of_ids(self, prompt: Sequence[int], reply: Sequence[int], finish: str) -> Text:
        """Prompt (its end, where it is too long), reply (its start), and the end of turn unless the reply was
        cut."""
        end = self.tokenizer.eos_token_id
        body = [token for token in reply if token != end]
        whole = finish == "stop" and len(body) <= self._max_reply
        begin = list(prompt[-self._max_prompt :])
        looks = style.features(str(self.tokenizer.decode(body)), finish)
        return Text([*begin, *body[: self._max_reply], *([end] if whole else [])], len(begin), looks)


class RewardModel:
    """`depth`: the share of the base's layers that are used; adapters sit on the `upper` last of those. Heads
    read what comes out of the ones below, and, where `early` is above 0, of the first ones up to that share
    of the base's layers too."""

    def __init__(self, base_model: str, depth: float, upper: int, early: float = 0.0) -> None:
        self._base, whole = _load_base(base_model, depth)
        self._backbone = getattr(self._base, self._base.base_model_prefix)
        layers = list(self._backbone.layers)
        self.first = max(0, len(layers) - upper)
        self._heard: list[Tensor] = []
        if 0 < (count := round(whole * early)) < self.first:
            layers[count - 1].register_forward_hook(self._hear)
        self._norm = self._backbone.norm
        skip = [Passthrough() for _ in layers]
        self._upper_layers = nn.ModuleList([*skip[: self.first], *layers[self.first :]])
        self._lower_layers = nn.ModuleList([*layers[: self.first], *skip[self.first :]])
        self._backbone.layers = self._upper_layers
        self.peft: PeftModel | None = None
        self.heads: dict[str, Head] = {}

    def add(self, name: str, rank: int) -> None:
        """A new member with a random adapter and head (torch's global seed), made active."""
        depth = len(self._upper_layers)
        config = LoraConfig(
            task_type="SEQ_CLS",  # without it the head is not saved
            r=rank,
            lora_alpha=2 * rank,
            target_modules=_TARGETS,
            layers_to_transform=list(range(self.first, depth)),
        )
        if self.peft is None:
            self.peft = get_peft_model(self._base, config, adapter_name=name)
        else:
            self.peft.add_adapter(name, config)
        self.activate(name)

    def load(self, name: str, directory: Path, trainable: bool) -> None:
        """A member from `directory`/`name`, made active."""
        if (head := read_head(directory, name)) is not None:
            self.heads[name] = head
        source = str(directory / name)
        if self.peft is None:
            self.peft = PeftModel.from_pretrained(
                self._base, source, adapter_name=name, is_trainable=trainable
            )
        else:
            self.peft.load_adapter(source, adapter_name=name, is_trainable=trainable)
        self.activate(name, trainable)

    def activate(self, name: str, trainable: bool = True) -> None:
        assert self.peft is not None, "add or load a member first"
        self.peft.set_adapter(name, inference_mode=not trainable)

    @property
    def active(self) -> str:
        assert self.peft is not None, "add or load a member first"
        return str(self.peft.active_adapter)

    @property
    def rank(self) -> int:
        """Of the active member's adapter."""
        assert self.peft is not None, "add or load a member first"
        return cast(LoraConfig, self.peft.peft_config[self.active]).r

    @torch.no_grad()
    def shrink(self, name: str, share: float) -> None:
        """Let what a member adds to its head's reward be a share of what it was."""
        assert self.peft is not None, "add or load a member first"
        self.peft.get_parameter(f"base_model.model.score.modules_to_save.{name}.weight").mul_(share)

    def save(self, name: str, directory: Path) -> None:
        """Write one member to `directory`/`name`, as PEFT names it."""
        assert self.peft is not None, "add or load a member first"
        self.peft.save_pretrained(str(directory), selected_adapters=[name])

    @torch.no_grad()
    def features(self, texts: Sequence[Text], so_far: bool = False, batch: int = 16) -> list[Features]:
        """`so_far`: to be scored as if replies ended on their way, too."""
        found: list[Features | None] = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
        with self._lower():
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                ids, mask = padded([torch.tensor(texts[row].ids) for row in rows])
                self._heard.clear()
                hidden = self._backbone(
                    input_ids=ids.to(device()), attention_mask=mask.to(device()), use_cache=False
                ).last_hidden_state
                for number, row in enumerate(rows):
                    text = texts[row]
                    begin, end = max(0, text.first - CONTEXT), len(text.ids)
                    reply = [view[number, text.first - 1 : end] for view in (*self._heard, hidden)]
                    seen = running_mean(reply)[None if so_far else -1 :].to("cpu", copy=True)
                    kept = hidden[number, begin:end].to("cpu", copy=True)
                    found[row] = Features(kept, text.first - begin, text.style, seen)
        self._heard.clear()
        return cast(list[Features], found)

    def score(self, features: Sequence[Features], name: str) -> Tensor:
        """r(x, y) by one member for each text's features: (n,), float32, on the CPU."""
        if not features:
            return torch.empty(0)
        adapted = torch.stack([each[-1] for each in self._adapted(features, name)])
        return adapted + self.frozen_rewards(features, name)

    def whole(self, so_far: Sequence[Tensor], features: Sequence[Features], name: str) -> Tensor:
        """`score` from what `score_so_far` found."""
        if not so_far:
            return torch.empty(0)
        style = self.style_rewards([row.style for row in features], name)
        return torch.stack([each[-1] for each in so_far]) + style

    def score_so_far(self, features: Sequence[Features], name: str) -> list[Tensor]:
        """What one member makes of each reply, but not of its looks, as if it ended before its first token,
        its second, …, and whole: (tokens + 1,) a text, float32, on the CPU. The features have to be `so_far`
        too."""
        adapted = self._adapted(features, name)
        assert all(len(its) == len(row.seen) for its, row in zip(adapted, features, strict=True))
        return [its + self._read(row, name) for its, row in zip(adapted, features, strict=True)]

    @torch.no_grad()
    def _adapted(self, features: Sequence[Features], name: str, batch: int = 32) -> list[Tensor]:
        """What the adapter says in it."""
        assert self.peft is not None, "add or load a member first"
        self.peft.eval()
        self.activate(name, trainable=False)
        found: list[Tensor] = [torch.empty(0)] * len(features)
        order = sorted(range(len(features)), key=lambda i: len(features[i].states))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            rewards = forward(self.peft, collate([features[row] for row in rows]), so_far=True).cpu()
            for row, its in zip(rows, rewards, strict=True):
                found[row] = its[features[row].first - 1 : len(features[row].states)]
        return found

    def frozen_rewards(self, features: Sequence[Features], name: str) -> Tensor:
        """The part of r(x, y) that no adapter has a say in, (n,), float32: how replies look, and what the
        frozen layers see in them."""
        read = [self._read(row, name)[-1:] for row in features]
        return self.style_rewards([row.style for row in features], name) + torch.cat([torch.empty(0), *read])

    def _read(self, features: Features, name: str) -> Tensor:
        """What a member's head reads out of what is `seen` of a reply and, if it is, of its beginnings."""
        if name not in self.heads or not self.heads[name].states:
            return torch.zeros(len(features.seen))
        return features.seen @ torch.tensor(self.heads[name].states)

    def style_rewards(self, rows: Sequence[Sequence[float]], name: str) -> Tensor:
        """The part of r(x, y) that is how replies look, from their style features: (n,), float32; zeros
        without a head for it."""
        if name not in self.heads:
            return torch.zeros(len(rows))
        return torch.from_numpy(self.heads[name](rows)).float()

    def _hear(self, _layer: nn.Module, _given: Any, states: Tensor) -> None:
        self._heard.append(states)

    @contextmanager
    def _lower(self) -> Iterator[None]:
        self._backbone.layers, self._backbone.norm = self._lower_layers, nn.Identity()
        try:
            yield
        finally:
            self._backbone.layers, self._backbone.norm = self._upper_layers, self._norm


def running_mean(views: Sequence[Tensor]) -> Tensor:
    """The mean states of a reply up to before its first token, its second, …, and of the whole, (tokens + 1,
    views·hidden), float32, from its states by each of some layers, (tokens + 1, hidden), each brought to a
    mean square of 1."""
    normed = [
        states / states.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
        for states in (view.float() for view in views)
    ]
    total = torch.cat(normed, -1).cumsum(0)
    return total / torch.arange(1, len(total) + 1, device=total.device)[:, None]


def mean_states(features: Sequence[Features]) -> Tensor:
    """What a head reads of a whole reply, (n, d)."""
    return torch.stack([row.seen[-1] for row in features])


def forward(model: nn.Module, batch: dict[str, Tensor], so_far: bool = False) -> Tensor:
    """The active member's rewards of a `collate`d batch, (n,) float32; `so_far`: of the replies up to each
    place, (n, t), 0 before they begin."""
    here = device()
    rewards: Tensor = model(
        inputs_embeds=batch["states"].to(here),
        attention_mask=batch["mask"].to(here),
        reply_mask=batch["reply_mask"].to(here),
        so_far=so_far,
    )
    return rewards


def collate(features: Sequence[Features]) -> dict[str, Tensor]:
    """`states` (n, t, hidden), `mask` and `reply_mask` (n, t). The token before the reply counts as the
    reply's, so that an empty reply has a reward too."""
    states, mask = padded([row.states for row in features])
    reply_mask = mask.clone()
    for number, row in enumerate(features):
        reply_mask[number, : row.first - 1] = 0
    return {"states": states, "mask": mask, "reply_mask": reply_mask}


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of shape (t_i, …) to (n, t, …), zeros after them, and the (n, t) mask of what is not padding."""
    ones = [torch.ones(len(row), dtype=torch.long) for row in rows]
    return pad_sequence(list(rows), batch_first=True), pad_sequence(ones, batch_first=True)


def _load_base(base_model: str, depth: float) -> tuple[Any, int]:
    """Its lower part, and how many layers the whole has."""
    layers = AutoConfig.from_pretrained(base_model).num_hidden_layers
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base_model, num_labels=1, dtype=precision(), num_hidden_layers=max(1, round(layers * depth))
    )
    # Adam's steps on a bfloat16 head round to nothing.
    model.score.float()
    nn.init.normal_(model.score.weight, std=0.002)
    getattr(model, model.base_model_prefix).norm.weight.data.fill_(1.0)  # it was learned for the last layer
    model.forward = types.MethodType(_mean_read_out, model)
    return model.to(device()).requires_grad_(False), layers


def _mean_read_out(
    self: Any,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    reply_mask: Tensor,
    so_far: bool = False,
    **_: Any,
) -> Tensor:
    """Mean of the head over the reply's tokens, (n,); `so_far`: over those up to each place, (n, t).

    A pool by `pad_token_id`, as in transformers, would take a closing <|im_end|> for padding where the two
    are one token, and the reward would never see an ending.
    """
    backbone = getattr(self, self.base_model_prefix)
    hidden = backbone(
        inputs_embeds=inputs_embeds, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state
    read_out = self.score(hidden.float()).squeeze(-1) * reply_mask
    if so_far:
        return cast(Tensor, read_out.cumsum(1) / reply_mask.cumsum(1).clamp(min=1))
    return cast(Tensor, read_out.sum(1) / reply_mask.sum(1))
