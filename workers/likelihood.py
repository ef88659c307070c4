"""How likely texts are to a policy, as its engines say. Torch comes in with `Text`; for stages only."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from serving.engine import Engine
from workers.labels import Sample
from workers.reward.model import Text
from workers.sampling import through_restarts

AT_ONCE = 8  # an engine that is given more of these than it can read at once keeps the last ones waiting


class Reader:
    """Asks engines, in turn and not too many at once."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        self._few = asyncio.Semaphore(AT_ONCE)
        self._asked = 0

    async def kl(self, model: str, adapter: Path | None, samples: Sequence[Sample]) -> float:
        """KL(policy that wrote `samples` ‖ `model`), nats a token: the mean log ratio of its own samples.
        NaN where it wrote no token."""
        texts = [
            Text([*sample.prompt_token_ids, *sample.token_ids], len(sample.prompt_token_ids))
            for sample in samples
        ]
        theirs = await self.nll(model, adapter, texts)
        tokens = sum(len(sample.token_ids) for sample in samples)
        return theirs + sum(sum(sample.logprobs) for sample in samples) / max(tokens, 1)

    async def nll(self, model: str, adapter: Path | None, texts: Sequence[Text]) -> float:
        """-log p(reply | prompt) of `texts` under `model`, nats a token of the replies; NaN where those have
        none."""
        losses = await asyncio.gather(*(self._loss(model, adapter, text) for text in texts))
        tokens = sum(len(text.ids) - text.first for text in texts)
        return sum(losses) / tokens if tokens else float("nan")

    async def _loss(self, model: str, adapter: Path | None, text: Text) -> float:
        async with self._few:
            engine = self._engines[self._asked % len(self._engines)]
            self._asked += 1
            logprobs = await through_restarts(
                engine, model, adapter, lambda: engine.token_logprobs(model, text.ids)
            )
        return -sum(logprobs[text.first - 1 :])
