"""What the workers need to know: when to learn, and the hyperparameters of learning."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from serving.methods import Method
from serving.settings import ServingSettings

Module = Literal["q_proj", "k_proj", "v_proj", "o_proj"]


class WorkerSettings(ServingSettings):
    """`reward_…`, `score_…`, `optimise_…` and `evaluate_…` are handed to the stage of that name as they
    are."""

    model: str = Field(
        default="smollm2-135m-instruct", description="Base model: a local directory or a hub id"
    )
    update_every: int = Field(default=64, gt=0, description="New labels after which an update is due")
    update_schedule: float | None = Field(
        default=None, gt=0, description="Seconds between updates, however few the new labels"
    )
    check_every: float = Field(default=60.0, gt=0, description="Seconds between looks at whether one is due")
    release_every: float = Field(default=10.0, gt=0, description="Seconds between looks at what is on trial")
    min_labels: int = Field(default=32, gt=0, description="Labels needed to train the reward model")
    min_prompts: int = Field(default=8, gt=0, description="Distinct prompts needed to update the policy")
    min_holdout_prompts: int = Field(default=4, gt=0, description="Held-out prompts needed to measure it")
    holdout: float = Field(default=0.2, gt=0, lt=1, description="Share of conversations held out")
    replay: int = Field(default=512, ge=0, description="Older labels mixed into an update, at most")
    rater_cap: float = Field(
        default=0.02, gt=0, le=1, description="Largest share of a snapshot's weight that a rater has"
    )
    pair_share: float = Field(
        default=0.5, gt=0, lt=1, description="Share of comparisons in that weight, where there are thumbs too"
    )
    prompt_pool: int = Field(
        default=2000, gt=0, description="Newest completions to take prompts from, and imported prompts"
    )
    seed: int = Field(default=0, description="Seed of every random choice of a job")

    method: Method = Field(default=Method.grpo, description="How the policy is optimised")
    policy_rounds: int = Field(default=1, gt=0, description="Rounds of sample, score, optimise in a job")
    policy_prompts: int | None = Field(
        default=None, gt=0, description="Prompts a round, at most; unset: as many as have 256 replies"
    )
    policy_k: int | None = Field(
        default=None, ge=2, description="Replies sampled to each prompt; unset: the method's own"
    )
    policy_replay: int = Field(
        default=256, ge=0, description="Replies of earlier jobs that are learnt from once more, at most"
    )
    max_tokens: int = Field(default=80, gt=0, description="Tokens a sampled reply, at most")
    uncertainty: float = Field(
        default=0.5, ge=0, description="λ: reward = mean - λ·std of the members, where these score"
    )
    score_reward: Literal["ensemble", "warm"] = Field(
        default="ensemble", description="Who scores: the members, or their average in weight space"
    )
    score_model_weight: float = Field(default=1.0, ge=0, description="Weight of the reward model's score")
    score_length_weight: float = Field(
        default=0.0, ge=0, le=1, description="Share of what length explains of the reward to take away"
    )
    score_repetition_weight: float = Field(
        default=0.5, ge=0, description="Standard deviations that a reply loses which only repeats itself"
    )
    score_rule_weight: float = Field(
        default=0.25, ge=0, description="Standard deviations that a reply gains which wins under all rules"
    )

    optimise_learning_rate: float | None = Field(
        default=None, gt=0, description="Learning rate of the adapter; unset: the method's own"
    )
    optimise_batch: int | None = Field(
        default=None, gt=0, description="Replies a step of the optimiser; unset: the method's own"
    )
    optimise_epochs: int = Field(default=1, gt=0, description="Passes over the replies of a round")
    optimise_beta: float | None = Field(
        default=None, ge=0, description="β: weight of the KL to the base; unset: the method's own"
    )
    optimise_rank: int = Field(default=16, gt=0, le=16, description="Rank of a first adapter")
    optimise_targets: Annotated[tuple[Module, ...], NoDecode] = Field(
        default=("o_proj",),
        min_length=1,
        description="Modules that a first adapter is on, comma separated: q_proj, k_proj, v_proj, o_proj; "
        "the methods' learning rates are for this one, and are too fast for more",
    )
    optimise_top_layers: float = Field(
        default=0.5, gt=0, le=1, description="Share of the layers, from the top, that a first adapter is on"
    )
    optimise_pairs: int = Field(default=2, gt=0, description="Pairs that online_dpo makes of K replies")
    optimise_people: int = Field(
        default=96, ge=0, description="People's newest comparisons that online_dpo learns from too, at most"
    )
    optimise_chosen_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the preferred reply's own likelihood in dpo and online_dpo (RPO)",
    )
    optimise_credit_decay: float = Field(
        default=0.7, ge=0, le=1, description="λ of the credit for single tokens; 1: one advantage a reply"
    )
    optimise_epsilon: float = Field(
        default=1.5,
        gt=0,
        description="How far from 1 a token's importance ratio may be and still be moved further away",
    )
    optimise_sft_weight: float = Field(
        default=0.1, ge=0, description="Weight of saying what people rated well (PPO-ptx)"
    )
    optimise_plain_weight: float = Field(
        default=0.5, ge=0, description="Weight of staying with the base on plain texts that nobody rates"
    )
    optimise_max_kl_step: float | None = Field(
        default=None,
        gt=0,
        description="KL to the policy that sampled at which a round is cut short; unset: the method's own",
    )
    optimise_max_kl_base: float = Field(
        default=0.45, gt=0, description="KL to the base at which it is cut short, nats a token"
    )
    optimise_reach: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Share of the bound on a round's KL that rloo and grpo go, however long their steps",
    )
    reward_members: int = Field(default=2, ge=1, description="Reward models in the ensemble")
    reward_max_labels: int = Field(
        default=1024, gt=0, description="Labels of a snapshot that are learnt from, at most"
    )
    reward_confidence: float = Field(
        default=0.6, ge=0.5, lt=1, description="How surely a reward model must beat the live one, one-sided"
    )
    evaluate_count: int = Field(default=40, gt=0, description="Held-out prompts to evaluate on, at most")
    evaluate_k: int = Field(default=3, gt=0, description="Replies to each of them, of either side")
    evaluate_max_kl: float = Field(
        default=0.5, gt=0, description="KL to the base that the gate allows, nats a token"
    )
    evaluate_max_kl_champion: float = Field(
        default=0.3, gt=0, description="KL to the champion that it allows, nats a token"
    )
    evaluate_max_nll_rise: float = Field(
        default=0.02,
        gt=0,
        description="How much less likely plain text may become than to the base; "
        "at 0.9 of it a round is cut",
    )
    evaluate_max_length_ratio: float = Field(
        default=3.0, gt=1, description="How many times as long, or as short, replies may become"
    )
    evaluate_max_repetition_rise: float = Field(
        default=0.1, gt=0, description="How much the shares of repeated, same and empty replies may rise"
    )
    evaluate_max_cut_rise: float = Field(
        default=0.3, gt=0, description="How much the share of replies cut at their most tokens may rise"
    )
    evaluate_max_disagreement_rise: float = Field(
        default=0.25, gt=0, description="Rise of the members' disagreement that makes the gate suspicious"
    )

    ai_constitution: Path | None = Field(
        default=None, description="TOML file of principles to judge by; unset: no AI feedback"
    )
    ai_judge_url: str | None = Field(default=None, description="The judge's OpenAI base URL, with its /v1")
    ai_judge_model: str | None = Field(default=None, description="The judge's model name")
    ai_judge_key: str | None = Field(default=None, description="The judge's API key")
    ai_pairs: int = Field(default=64, gt=0, description="Pairs of replies that it judges in a job, at most")
    ai_weight: float = Field(
        default=0.5, gt=0, lt=1, description="What its labels of a pair weigh beside a person's comparison"
    )
    ai_concurrency: int = Field(default=8, gt=0, description="Questions to it at a time")

    @field_validator("optimise_targets", mode="before")
    @classmethod
    def _split_targets(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @model_validator(mode="after")
    def _find_judge(self) -> Self:
        if self.ai_constitution is None:
            return self
        if not self.ai_judge_url or not self.ai_judge_model:
            raise ValueError(
                "THUMBWHEEL_AI_CONSTITUTION needs a judge: set THUMBWHEEL_AI_JUDGE_URL and _MODEL too"
            )
        object.__setattr__(self, "ai_constitution", self.ai_constitution.expanduser().resolve())
        return self

    def prefixed(self, stage: str) -> dict[str, Any]:
        """The settings of one stage under the names that it knows them by."""
        prefix = f"{stage}_"
        return {
            name.removeprefix(prefix): value
            for name, value in self.model_dump(mode="json").items()
            if name.startswith(prefix)
        }
