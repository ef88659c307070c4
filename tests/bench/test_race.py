import pytest

from tests.bench.race import Course, Leg, mean_and_error, target_of


def course(*points: tuple[float, float]) -> Course:
    return Course("c", 0.0, "", [Leg(seconds, gold, 0.0, 1.0, 1, 1.0, 1) for seconds, gold in points])


def test_the_time_to_a_score_is_on_the_line_between_the_rounds_around_it():
    run = course((10, 0.4), (50, 0.6), (90, 0.5), (130, 0.8))
    assert run.seconds_to(0.5) == pytest.approx(30)
    assert run.seconds_to(0.6) == pytest.approx(50)
    assert run.seconds_to(0.65) == pytest.approx(110)
    assert run.seconds_to(0.3) == 10
    assert run.seconds_to(0.81) is None


def test_the_target_is_one_that_all_came_to():
    high, low = course((1, 0.4), (2, 0.9)), course((1, 0.4), (2, 0.7), (3, 0.6))
    assert target_of([high, low], None) == 0.7
    assert target_of([high, low], 0.5) == 0.5
    assert target_of([high, low], 0.8) == 0.7


def test_replies_to_one_prompt_do_not_count_as_independent():
    mean, error = mean_and_error([[0.0, 0.0], [1.0, 1.0]])
    assert mean == 0.5
    assert error == pytest.approx(0.5)  # of two values 0 and 1, not of four
    assert mean_and_error([[0.0, 1.0], [0.0, 1.0]])[1] == 0


def test_a_course_is_read_as_it_was_written():
    run = course((10, 0.4), (50, 0.6))
    assert Course.from_json(run.as_json()) == run
