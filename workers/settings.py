"""What the workers need to know: when to learn, and the hyperparameters of learning."""

from typing import Any, Literal

from pydantic import Field

from serving.settings import ServingSettings

Method = Literal["rloo", "online_dpo"]


class WorkerSettings(ServingSettings):
    """`reward_…`, `optimise_…` and `evaluate_…` are handed to the stage of that name as they are."""

    model: str = Field(
        default="smollm2-135m-instruct", description="Base model: a local directory or a hub id"
    )
    update_every: int = Field(default=64, gt=0, description="New labels after which an update is due")
    update_schedule: float | None = Field(
        default=None, gt=0, description="Seconds between updates, however few the new labels"
    )
    check_every: float = Field(default=60.0, gt=0, description="Seconds between looks at whether one is due")
    min_labels: int = Field(default=32, gt=0, description="Labels needed to train the reward model")
    min_prompts: int = Field(default=8, gt=0, description="Distinct prompts needed to update the policy")
    min_holdout_prompts: int = Field(default=4, gt=0, description="Held-out prompts needed to measure it")
    holdout: float = Field(default=0.2, gt=0, lt=1, description="Share of conversations held out")
    replay: int = Field(default=512, ge=0, description="Older labels mixed into an update, at most")
    prompt_pool: int = Field(default=2000, gt=0, description="Newest completions to take prompts from")
    seed: int = Field(default=0, description="Seed of every random choice of a job")

    method: Method = Field(default="online_dpo", description="How the policy is optimised")
    policy_rounds: int = Field(default=1, gt=0, description="Rounds of sample, score, optimise in a job")
    policy_prompts: int = Field(default=48, gt=0, description="Prompts a round, at most")
    policy_k: int = Field(default=4, ge=2, description="Replies sampled to each prompt")
    max_tokens: int = Field(default=80, gt=0, description="Tokens a sampled reply, at most")
    uncertainty: float = Field(default=0.5, ge=0, description="λ: reward = mean - λ·std of the members")

    optimise_learning_rate: float = Field(default=5e-4, gt=0, description="Learning rate of the adapter")
    optimise_batch: int = Field(default=8, gt=0, description="Pairs or replies a step of the optimiser")
    optimise_beta: float = Field(default=0.1, gt=0, description="β: weight of the KL to the base")
    reward_members: int = Field(default=2, ge=1, description="Reward models in the ensemble")
    evaluate_count: int = Field(default=64, gt=0, description="Held-out prompts to evaluate on, at most")
    evaluate_k: int = Field(default=4, gt=0, description="Replies to each of them, of either side")
    evaluate_max_kl: float = Field(
        default=0.5, gt=0, description="KL to the base that the gate allows, nats a token"
    )

    def prefixed(self, stage: str) -> dict[str, Any]:
        """The settings of one stage under the names that it knows them by."""
        prefix = f"{stage}_"
        return {
            name.removeprefix(prefix): value
            for name, value in self.model_dump(mode="json").items()
            if name.startswith(prefix)
        }
