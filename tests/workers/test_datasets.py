from workers.datasets import for_judge
from workers.labels import Label


def test_the_judge_has_conversations_of_its_own():
    rows = [Label("thumb", [], "a", None, 1.0, conversation=f"conv-{number}") for number in range(200)]
    mine = {row.conversation for row in rows if for_judge(row)}
    assert 0.15 < len(mine) / 200 < 0.45
    again = [Label("comparison", [], "b", "c", 0.0, conversation=row.conversation) for row in rows]
    assert mine == {row.conversation for row in again if for_judge(row)}, "whatever was said, and of what"
