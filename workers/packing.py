"""Replies packed into rows without padding, a prompt once for all of its replies. Torch; for stages only.

A row holds whole groups: [prompt, reply, reply, …], [prompt, reply, …], … and before them once what all of
its prompts begin with, such as a system message. All but the attention sees it as one long sequence, so no
token is computed twice and none is padding. For the attention each reply is unpacked behind its prompt, so it
sees what it would see alone.
"""

import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from trl.trainer.utils import FusedCausalLMOutput

from workers.frozen import Frozen, Part, reading

ATTENTION = "packed"
# Positions whose logits are alive at a time: as fit a CPU's caches, and fewer reads of the head on a GPU.
CPU_CHUNK, GPU_CHUNK = 128, 1024
SHORT = 256  # tokens of a sequence up to which a CPU keeps its attention's weights for the backward
WORTH = 8  # tokens that the prompts of a row have in common from which on they stand there once
IGNORED = -100
_EXTRAS = ("entropy", "mean_logit", "top")
_UNSUPPORTED = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier",
)


@dataclass(frozen=True)
class Pack:
    """One row of n tokens with m tokens of replies that are scored.

    `ids`, `positions`: (1, n). `unpack`: (sequences, t), where in the row each sequence's tokens are (right
    padding: 0). `place`: (n,), where in the flattened `unpack` each token's output is. `source`, `target`:
    (m,), the place that predicts each scored token, and the token. `reply`: (m,), whose of the row it is.
    `parts`: what the row is made of, for `workers.frozen`.
    """

    ids: Tensor
    positions: Tensor
    unpack: Tensor
    place: Tensor
    source: Tensor
    target: Tensor
    reply: Tensor
    parts: list[Part]


@dataclass(frozen=True)
class Reply:
    """Token ids of a prompt and of a reply to it; neither is empty."""

    prompt: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class Scored:
    """What a model says of m tokens, (m,) float32: `logprobs` and `entropy` in nats, `mean_logit` over the
    vocabulary, `top` 1 where the token is the likeliest. Only `logprobs` has a gradient."""

    logprobs: Tensor
    entropy: Tensor
    mean_logit: Tensor
    top: Tensor


def plan(replies: Sequence[Reply], budget: int) -> list[list[int]]:
    """The numbers of `replies` in rows of at most `budget` tokens, those of one prompt side by side.

    A prompt with its replies that is longer than the budget gets a row of its own, in parts where it has
    several replies.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, text in enumerate(replies):
        groups.setdefault(tuple(text.prompt), []).append(number)
    rows: list[list[int]] = []
    used = budget
    for prompt, members in groups.items():
        whole = len(prompt) + sum(len(replies[number].tokens) for number in members)
        if used + whole > budget:
            rows.append([])
            used = 0
        begun = False
        for number in members:
            size = len(replies[number].tokens) + (0 if begun else len(prompt))
            if rows[-1] and used + size > budget:
                rows.append([])
                used, size = 0, len(replies[number].tokens) + len(prompt)
            rows[-1].append(number)
            used += size
            begun = True
    return [row for row in rows if row]


def pack(replies: Sequence[Reply], rows: Sequence[int], share: bool = True) -> Pack:
    """One row of the replies `rows` of `replies`; neighbours with the same prompt `share` it, and all prompts
    what they begin with."""
    common = _common([replies[row].prompt for row in rows]) if share else 0
    ids: list[int] = []
    positions: list[int] = []
    sequences: list[list[int]] = []
    source: list[int] = []
    target: list[int] = []
    reply: list[int] = []
    parts: list[Part] = []
    prompt: tuple[int, ...] | None = None
    begin = 0
    if common:
        ids += replies[rows[0]].prompt[:common]
        positions += range(common)
        parts.append((tuple(ids), common))
    for number, row in enumerate(rows):
        text = replies[row]
        if not share or tuple(text.prompt) != prompt:
            prompt, begin = tuple(text.prompt), len(ids)
            ids += text.prompt[common:]
            positions += range(common, len(prompt))
            parts.append((prompt, len(prompt) - common))
        here, length = len(ids), len(text.tokens)
        behind = begin + len(text.prompt) - common
        ids += text.tokens
        positions += range(len(text.prompt), len(text.prompt) + length)
        sequences.append([*range(common), *range(begin, behind), *range(here, here + length)])
        source += [behind - 1, *range(here, here + length - 1)]
        target += text.tokens
        reply += [number] * length
        parts.append(((*prompt, *text.tokens), length))
    longest = max(map(len, sequences))
    place = torch.zeros(len(ids), dtype=torch.long)
    for number, sequence in enumerate(sequences):
        place[sequence] = torch.arange(len(sequence)) + number * longest
    padded = [sequence + [0] * (longest - len(sequence)) for sequence in sequences]
    return Pack(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        unpack=torch.tensor(padded),
        place=place,
        source=torch.tensor(source),
        target=torch.tensor(target),
        reply=torch.tensor(reply),
        parts=parts,
    )


def _common(prompts: Sequence[list[int]]) -> int:
    """How many tokens all `prompts` begin with, less than any of them has; 0 where that is not `WORTH` it, or
    where all are the same."""
    first, last = min(prompts), max(prompts)  # in the order of a dictionary, so what is between begins alike
    if first == last:
        return 0
    most = min(map(len, prompts)) - 1
    alike = next((n for n in range(most) if first[n] != last[n]), most)
    return alike if alike >= WORTH else 0


def score_pack(model: Any, row: Pack, extras: bool = False) -> Scored:
    """What a causal LM below PEFT says of a row's scored tokens; the log-probabilities with their gradient.

    `extras`: with the entropy and its like; else they are zeros.
    """
    return score_states(model, row, read_pack(model, row), extras)


def score_states(model: Any, row: Pack, states: Tensor, extras: bool = False) -> Scored:
    """`score_pack` from what `read_pack` found."""
    head = model.get_output_embeddings().weight
    found = _Score.apply(states, head, row.target.to(states.device), extras)  # type: ignore[no-untyped-call]
    return Scored(*found)


def read_pack(model: Any, row: Pack) -> Tensor:
    """The last hidden state before each of a row's scored tokens, (m, d)."""
    with _bfloat16(model), reading(model, row.parts):
        hidden: Tensor = _run(model, row).last_hidden_state[0]
    return hidden[row.source.to(model.device)]


def read_below(model: Any, row: Pack, frozen: Frozen) -> Tensor:
    """`read_pack`, but of the hidden state that goes into the lowest adapter."""
    with _bfloat16(model), frozen.below(row.parts) as end:
        _run(model, row)
    return end.states[0][row.source.to(model.device)]


def _run(model: Any, row: Pack) -> Any:
    here = model.device
    return getattr(model, model.base_model_prefix)(
        input_ids=row.ids.to(here),
        position_ids=row.positions.to(here),
        # A whole one is taken as it is, and not read.
        attention_mask=torch.zeros(1, 1, 1, 1, device=here),
        use_cache=False,
        unpack=row.unpack.to(here),
        place=row.place.to(here),
    )


def install(model: Any, budget: int) -> None:
    """Give a causal LM below PEFT the `fused_lm_head=True` forward that TRL's trainers call, over packed rows
    of at most `budget` tokens. What it is asked otherwise it answers as before."""
    enable(model)
    plain = model.forward

    def forward(
        self: Any, *given: Any, labels: Tensor | None = None, fused_lm_head: bool = False, **named: Any
    ) -> Any:
        if not fused_lm_head or labels is None:
            return plain(*given, labels=labels, **named)
        return _fused(self, named["input_ids"], named["attention_mask"], labels, budget)

    model.forward = types.MethodType(forward, model)


def enable(model: Any) -> None:
    """Let a causal LM below PEFT read packed rows. ValueError where its logits are more than its head's."""
    config = model.config
    odd = [name for name in _UNSUPPORTED if getattr(config, name, None) not in (None, 1.0)]
    if odd or model.get_output_embeddings().bias is not None or getattr(config, "sliding_window", None):
        raise ValueError(f"{config.model_type} cannot be trained here: {', '.join(odd) or 'bias or window'}")
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)  # for what is no packed row
    config._attn_implementation = ATTENTION


def _fused(
    model: Any, ids: Tensor, attention_mask: Tensor, labels: Tensor, budget: int
) -> FusedCausalLMOutput:
    """TRL's padded batch, (b, t), through packed rows: fields of shape (b, t - 1), 0 where not scored."""
    replies, places = [], []
    for number, (row, here, wanted) in enumerate(zip(ids, attention_mask, labels, strict=True)):
        read = here.nonzero().squeeze(1)
        scored = (wanted[read] != IGNORED).nonzero().squeeze(1)
        if len(scored) == 0:
            continue
        first, last = int(scored[0]), int(scored[-1])
        assert len(scored) == last + 1 - first, "a reply is scored as a whole"
        tokens = row[read].tolist()
        replies.append(Reply(tokens[:first], tokens[first : last + 1]))
        places.append((number, int(read[first]) - 1))
    shape = (ids.shape[0], ids.shape[1] - 1)
    spread = {name: torch.zeros(shape, device=ids.device).flatten() for name in ("logprobs", *_EXTRAS)}
    for row in plan(replies, budget):
        packed = pack(replies, row)
        scored = score_pack(model, packed, extras=True)
        flat = torch.cat(
            [places[n][0] * shape[1] + places[n][1] + torch.arange(len(replies[n].tokens)) for n in row]
        )
        for name in spread:
            spread[name] = spread[name].index_add(0, flat.to(ids.device), getattr(scored, name))
    found = {name: values.view(shape) for name, values in spread.items()}
    mask = labels[:, 1:] != IGNORED
    return FusedCausalLMOutput(
        loss=-found["logprobs"].sum() / mask.sum().clamp(min=1),
        log_probs=found["logprobs"],
        entropy=found["entropy"],
        mean_logits=found["mean_logit"],
        is_top1=found["top"] > 0,
        label_mask=mask,
    )


@contextmanager
def _bfloat16(model: Any) -> Iterator[None]:
    """Adapters in the base's precision on a CPU, where casts of the activations cost as much as layers."""
    if model.device.type != "cpu" or model.dtype != torch.bfloat16:
        yield
        return
    with disable_input_dtype_casting(model), torch.autocast("cpu", torch.bfloat16):
        yield


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float = 1.0,
    unpack: Tensor | None = None,
    place: Tensor | None = None,
    **given: Any,
) -> tuple[Tensor, Tensor | None]:
    """Causal attention (1, heads, n, d) → (1, n, heads, d) within each of a row's unpacked sequences."""
    if unpack is None or place is None:
        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **given
        )
        return found
    flat, (b, t) = unpack.flatten(), unpack.shape
    q, k, v = (
        part[0].index_select(1, flat).view(part.shape[1], b, t, -1).transpose(0, 1)
        for part in (query, key, value)
    )
    causal = _matmul_attention if q.device.type == "cpu" and t <= SHORT else _fused_attention
    return causal(q, k, v, scaling).transpose(1, 2).flatten(0, 1).index_select(0, place)[None], None


def _fused_attention(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)


def _matmul_attention(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """The same by plain products. On a CPU the backward of PyTorch's fused kernel takes as long as all other
    layers together."""
    (b, heads, t, d), shared = q.shape, k.shape[1]
    queries = q.reshape(b * shared, heads // shared * t, d) * scaling
    scores = torch.bmm(queries, k.reshape(-1, t, d).transpose(1, 2)).float().view(-1, t, t)
    later = torch.ones(t, t, dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1).to(v.dtype)
    return torch.bmm(weights.view(b * shared, -1, t), v.reshape(-1, t, d)).view(b, heads, t, d)


class _Score(torch.autograd.Function):
    """log softmax(W h)_y without a vocabulary-wide tensor that outlives its chunk.

    ∂/∂h = W_y - W'p, p = softmax(W h), is made on the way forward, so nothing is computed twice. The entropy
    log Z - h·W'p and the mean logit h·mean(W) come with it.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, extras: bool) -> tuple[Tensor, ...]:
        logprobs, entropy, mean_logit, top = torch.zeros(4, len(hidden), device=hidden.device).unbind(0)
        wants = hidden.requires_grad
        slope = torch.empty_like(hidden) if wants else hidden.new_empty(0)
        mean_weight = weight.float().mean(0) if extras else None
        size = CPU_CHUNK if hidden.device.type == "cpu" else GPU_CHUNK
        for first in range(0, len(hidden), size):
            part = slice(first, first + size)
            state, token = hidden[part], target[part]
            logits = state @ weight.T
            said = logits.gather(-1, token[:, None]).float()
            if not wants and not extras:
                logprobs[part] = (said - logits.float().logsumexp(-1, keepdim=True)).squeeze(-1)
                continue
            # Each pass over (chunk, vocabulary) counts, so p is never made: e^(logit - most) and its sum are.
            most = logits.amax(-1, keepdim=True)
            raised = logits.float().sub_(most).exp_()
            total = raised.sum(-1, keepdim=True)
            log_z = most.float() + total.log()
            logprobs[part] = (said - log_z).squeeze(-1)
            expected = (raised.to(weight.dtype) @ weight).float() / total
            if wants:
                slope[part] = weight[token].float() - expected
            if mean_weight is not None:
                top[part] = (said >= most).squeeze(-1).float()
                entropy[part] = log_z.squeeze(-1) - (state.float() * expected).sum(-1)
                mean_logit[part] = state.float() @ mean_weight
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(entropy, mean_logit, top)
        return logprobs, entropy, mean_logit, top

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradient[:, None] * slope).to(slope.dtype), None, None, None
