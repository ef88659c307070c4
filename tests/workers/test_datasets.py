from feedback.reader import Said
from feedback.types import Comparison, Completion, ImportedPrompt, Rating, Thumb, Winner
from workers.datasets import asked_in_holdout, for_judge, labels_of, only_on_their_side, prompts_of, split
from workers.labels import Label, Prompt


def test_the_judge_has_conversations_of_its_own():
    rows = [Label("thumb", [], "a", None, 1.0, conversation=f"conv-{number}") for number in range(200)]
    mine = {row.conversation for row in rows if for_judge(row)}
    assert 0.15 < len(mine) / 200 < 0.45
    again = [Label("comparison", [], "b", "c", 0.0, conversation=row.conversation) for row in rows]
    assert mine == {row.conversation for row in again if for_judge(row)}, "whatever was said, and of what"


def test_a_prompt_of_both_sides_is_held_out_whoever_asks_it():
    def messages(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    def label(text: str, conversation: str) -> Label:
        return Label("thumb", messages(text), "a", None, 1.0, conversation=conversation)

    held, learnt = "conv-1", "conv-0"  # at a half
    labels = [label("x", held), label("x", learnt), label("y", learnt), label("z", learnt)]
    prompts = [Prompt(messages(text), name, name == held) for text, name in (("x", learnt), ("y", held))]
    asked = asked_in_holdout(labels, prompts, 0.5)
    assert split(labels, asked, 0.5) == ([labels[3]], [labels[0]])
    assert only_on_their_side(prompts, asked) == [prompts[1]]
    for names in ((learnt, held), (held, learnt)):
        imported = [ImportedPrompt(messages=messages("x"), conversation=name, created=0.0) for name in names]
        assert [(p.conversation, p.holdout) for p in prompts_of([], 0.5, imported)] == [(held, True)]


def completion(reply: str | None, policy: str = "policy-v0") -> Completion:
    return Completion(
        id=f"chatcmpl-{reply}",
        policy=policy,
        messages=[{"role": "user", "content": "Hello?"}],
        reply=reply,
        finish_reason="stop",
        key_id="k",
        conversation="c",
        created=1.0,
        duration=1.0,
    )


def test_each_side_has_the_version_that_wrote_it_and_a_correction_none():
    rating = Rating(completion_id="x", rater="ann", rating=Thumb.down, created=1.0, correction="Hi!")
    choice = Comparison(pair_id="p", rater="ann", winner=Winner.b, created=1.0)
    neither = Comparison(pair_id="q", rater="ann", winner=Winner.both_bad, created=1.0)
    old, new = completion("Yo.", "policy-v1"), completion("Hi.", "policy-v2")
    found = labels_of([Said(rating, old), Said(choice, old, new), Said(neither, old, new)])
    assert [(row.a, row.policy, row.b_policy) for row in found] == [
        ("Yo.", "policy-v1", None),
        ("Hi!", "", "policy-v1"),
        ("Yo.", "policy-v1", "policy-v2"),
        ("Yo.", "policy-v1", None),
        ("Hi.", "policy-v2", None),
    ]


def test_an_empty_reply_can_be_disliked_and_lose():
    rating = Rating(completion_id="x", rater="ann", rating=Thumb.down, created=1.0, correction="Hi!")
    choice = Comparison(pair_id="p", rater="ann", winner=Winner.b, created=1.0)
    found = labels_of([Said(rating, completion("")), Said(choice, completion(""), completion("Hi."))])
    assert [(row.kind, row.a, row.b, row.target) for row in found] == [
        ("thumb", "", None, 0.0),
        ("comparison", "Hi!", "", 1.0),
        ("comparison", "", "Hi.", 0.0),
    ]
    assert labels_of([Said(rating, completion(None))]) == []
