from feedback.types import ImportedPrompt
from workers.datasets import asked_in_holdout, for_judge, only_on_their_side, prompts_of, split
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
