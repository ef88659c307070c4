"""HTTP of feedback: thumbs and comparisons."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from feedback.caller import Caller, caller_of
from feedback.errors import FeedbackError
from feedback.store import FeedbackStore
from feedback.types import (
    Comparison,
    ComparisonRequest,
    FeedbackRequest,
    Identifier,
    Rating,
    Winner,
    now,
)

AnyCaller = Annotated[Caller, Depends(caller_of)]
User = Annotated[Identifier | None, Query(description="The rater's `user`; else the completion's")]


def feedback_router(store: FeedbackStore) -> APIRouter:
    router = APIRouter(prefix="/v1")

    async def rater(caller: Caller, completion_id: str, user: str | None) -> str:
        return caller.rater(user or await store.user_of(completion_id))

    def answer(rating: Rating, **more: Any) -> dict[str, Any]:
        return {"object": "feedback", **rating.model_dump(mode="json"), **more}

    @router.post("/feedback")
    async def rate(body: FeedbackRequest, caller: AnyCaller) -> dict[str, Any]:
        rating = Rating(
            rater=await rater(caller, body.completion_id, body.user),
            created=now(),
            **body.model_dump(exclude={"user"}),
        )
        policy = await store.rate(rating)
        return answer(rating, policy=policy)

    @router.get("/feedback/{completion_id}")
    async def own_rating(completion_id: str, caller: AnyCaller, user: User = None) -> dict[str, Any]:
        return answer(await store.rating(completion_id, await rater(caller, completion_id, user)))

    @router.delete("/feedback/{completion_id}")
    async def withdraw(completion_id: str, caller: AnyCaller, user: User = None) -> dict[str, Any]:
        withdrawn = await store.withdraw(completion_id, await rater(caller, completion_id, user))
        return answer(withdrawn, deleted=True)

    @router.post("/comparisons")
    async def compare(body: ComparisonRequest, caller: AnyCaller) -> dict[str, Any]:
        if body.pair_id is not None and body.winner is not None:
            pair, winner = await store.pair(body.pair_id), body.winner
        elif body.chosen is not None and body.rejected is not None:
            pair, winner = await store.pair_of(body.chosen, body.rejected)
        else:
            raise FeedbackError("send either pair_id and winner, or chosen and rejected")
        comparison = Comparison(
            pair_id=pair.id,
            rater=await rater(caller, pair.a, body.user),
            winner=winner,
            strength=body.strength,
            reasons=body.reasons,
            comment=body.comment,
            created=now(),
        )
        await store.compare(pair, comparison)
        return {
            "object": "comparison",
            **comparison.model_dump(mode="json"),
            "a": {"completion_id": pair.a, "policy": pair.policy_a},
            "b": {"completion_id": pair.b, "policy": pair.policy_b},
            "preferred": _preferred(winner, pair.policy_a, pair.policy_b),
        }

    return router


def _preferred(winner: Winner, policy_a: str, policy_b: str) -> str | None:
    return {Winner.a: policy_a, Winner.b: policy_b}.get(winner)
