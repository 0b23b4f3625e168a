"""Probes: what is there is found, what is not is not, and nothing that is tested was fitted or chosen on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.interp.probes import probe

SAMPLES, TYPES, DOCUMENTS, WIDTH, CLASSES = 1200, 200, 24, 32, 4


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that know the type of each sample and something besides, types and groups."""
    generator = np.random.default_rng(seed)
    types = generator.zipf(1.4, SAMPLES) % TYPES
    vectors = generator.normal(size=(TYPES, WIDTH))
    x = vectors[types] + generator.normal(size=(SAMPLES, WIDTH))
    return x.astype(np.float32), types, np.repeat(np.arange(DOCUMENTS), SAMPLES // DOCUMENTS)


def read(x: np.ndarray, labels: np.ndarray, types: np.ndarray, groups: np.ndarray, **more: Any) -> probe.Reading:
    return probe.read(x, labels, types, groups, **{"seed": 0, "permutations": 39, **more})


def test_what_stands_in_the_features_is_read_and_is_no_mere_word() -> None:
    x, types, groups = drawn(0)
    labels = np.random.default_rng(1).integers(0, CLASSES, SAMPLES)
    x[:, :CLASSES] += 6 * np.eye(CLASSES)[labels]
    found = read(x, labels, types, groups)
    assert found.accuracy > 0.9
    assert found.selectivity - found.half_width > 0.2, "words alone do not tell it"
    assert found.p == pytest.approx(1 / 40)
    assert found.permuted < found.permuted_high < 0.4
    assert found.tuned == pytest.approx(found.accuracy, abs=0.05)


def test_what_is_not_there_is_not_read() -> None:
    x, types, groups = drawn(2)
    labels = np.random.default_rng(3).integers(0, CLASSES, SAMPLES)
    found = read(x, labels, types, groups)
    assert found.accuracy == pytest.approx(1 / CLASSES, abs=0.06)
    assert found.permuted == pytest.approx(1 / CLASSES, abs=0.04)
    assert found.p > 0.025


def test_memorised_words_show_in_the_control_and_not_in_selectivity() -> None:
    x, types, groups = drawn(4)
    labels = probe.control_labels(types, np.arange(CLASSES), 77)
    found = read(x, labels, types, groups, like=np.arange(CLASSES))
    assert found.accuracy > found.permuted_high + 0.1, "a label for each word can be learned by heart"
    assert abs(found.selectivity) <= found.half_width


def test_selectivity_of_labels_that_are_controls_themselves_covers_0() -> None:
    """Noise of the right kind, some repetitions; ``benchmarks/probing.py`` does 400 on real activations."""
    x, types, groups = drawn(5)
    covered = 0
    for repetition in range(20):
        labels = probe.control_labels(types, np.arange(CLASSES), 500_000 + repetition)
        found = read(x, labels, types, groups, seed=repetition, permutations=1, like=np.arange(CLASSES))
        covered += abs(found.selectivity) <= found.half_width
    assert covered >= 16, "95 % of 20 is 19; 16 or fewer happen once in 400 times"


def test_no_group_is_ever_on_both_sides_and_each_sample_is_tested_once() -> None:
    _, _, groups = drawn(6)
    tested = []
    for train, test in probe._folds(groups, probe.FOLDS, 3):
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(SAMPLES))
        tested += list(test)
    assert sorted(tested) == list(range(SAMPLES))


def test_labels_of_a_group_leak_nothing_into_another() -> None:
    """A feature that tells the group, where labels are the same in each group: split by samples it would be certain."""
    groups = np.repeat(np.arange(DOCUMENTS), 20)
    labels = np.random.default_rng(8).integers(0, 2, DOCUMENTS)[groups]
    x = np.eye(DOCUMENTS, dtype=np.float32)[groups]
    found = read(x, labels, np.arange(len(groups)), groups)
    assert found.accuracy < 0.7


def test_control_labels_go_by_type_and_permutations_stay_in_their_group() -> None:
    _, types, groups = drawn(9)
    labels = np.random.default_rng(1).integers(0, CLASSES, SAMPLES)
    control = probe.control_labels(types, labels, 1)
    for kind in np.unique(types):
        assert len(set(control[types == kind])) == 1
    assert not np.array_equal(control, probe.control_labels(types, labels, 2))
    permuted = probe.permuted_labels(labels, groups, 1)
    assert not np.array_equal(permuted, labels)
    for group in np.unique(groups):
        assert sorted(permuted[groups == group]) == sorted(labels[groups == group])


@pytest.mark.parametrize(
    ("labels", "groups", "more", "words"),
    [
        (np.zeros(40, int), np.arange(40) % 10, {}, "a probe of 40 samples of 1 classes cannot be fitted"),
        (np.arange(40), np.arange(40) % 10, {}, "a probe of 40 samples of 40 classes cannot be fitted"),
        (np.arange(40) % 2, np.arange(40) % 4, {}, "come from 4 groups, and 5 are needed"),
        (np.arange(40) % 2, np.arange(40) % 10, {"controls": 1}, "1 control tasks and 39 permutations"),
        (np.arange(40) % 2, np.arange(40) % 10, {"permutations": 0}, "10 control tasks and 0 permutations"),
    ],
)
def test_what_cannot_be_probed_is_refused(
    labels: np.ndarray, groups: np.ndarray, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(LabError, match=words):
        read(np.ones((40, 3), np.float32), labels, np.arange(40), groups, **more)
