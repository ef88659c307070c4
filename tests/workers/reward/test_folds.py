import numpy as np

from workers.reward.folds import folds, units


def test_labels_of_a_conversation_are_one_unit_unless_it_is_the_only_one():
    assert units(["x", "y", "x"]).tolist() == [0, 1, 0]
    assert units(["x", "x", "x"]).tolist() == [0, 1, 2]
    assert units([]).tolist() == []


def test_a_unit_is_in_one_fold_and_folds_are_of_like_size():
    unit = np.repeat(np.arange(20), 3)
    fold = folds(unit, 5, 1)
    assert np.bincount(fold).tolist() == [12] * 5
    assert (fold.reshape(20, 3) == fold[::3, None]).all()
    assert folds(unit, 5, 1).tolist() == fold.tolist() != folds(unit, 5, 2).tolist()
    assert folds(units([]), 5, 1).tolist() == []
