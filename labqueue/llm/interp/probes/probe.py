"""Fits linear probes and says what their accuracy is worth: beside controls, permuted labels and the commonest class.

The control task gives each *type* a label at random (Hewitt and Liang 2019, arXiv:1909.03368): a probe that does as
well there has learned which word it is, and nothing that the model worked out. Permuted labels, within each group, are
what chance gives. Every sample is tested once, by a probe that was fitted and tuned on other groups alone.

A probe is ridge regression on standardised features, a column a class, the largest wins: one solution serves every set
of labels, so that controls and permutations cost hardly more than the labels themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labqueue.domain.errors import LabError
from labqueue.llm.interp.probes.labelled import Numbers

FOLDS = 4
"""Parts of the groups; each is tested once."""

INNER = 3
"""Folds of the training groups, to choose the penalty."""

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
"""Ridge penalties that are tried; features are standardised, so that it compares to the number of samples."""

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """What a probe reads from one layer; every sample was tested once."""

    accuracy: float
    chance: float
    """Of always saying the class that is commonest in training."""
    tuned: float
    """Mean accuracy over the inner folds: what a layer may be chosen by."""
    control: float
    """Mean accuracy on control tasks."""
    selectivity: float
    """``accuracy`` - ``control``."""
    half_width: float
    """Of selectivity's 95 % interval, from the spread of the control tasks."""
    permuted: float
    """Mean accuracy with labels permuted within groups."""
    permuted_high: float
    """What one in twenty permutations reaches."""
    p: float
    """Share of permutations that do as well, of these and the labels themselves."""


def control_labels(types: Numbers, labels: Numbers, seed: int) -> Numbers:
    """A label for each type, drawn from how often labels are; ``types`` and ``labels`` [sample]."""
    generator = np.random.default_rng(seed)
    of_type = generator.choice(labels, size=int(types.max()) + 1)
    found: Numbers = of_type[types]
    return found


def permuted_labels(labels: Numbers, groups: Numbers, seed: int) -> Numbers:
    """The labels of each group in another order; ``labels`` and ``groups`` [sample]."""
    generator = np.random.default_rng(seed)
    found = labels.copy()
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        found[inside] = labels[generator.permutation(inside)]
    return found


def read(
    x: Features,
    labels: Numbers,
    types: Numbers,
    groups: Numbers,
    *,
    seed: int,
    controls: int = 10,
    permutations: int = 99,
    like: Numbers | None = None,
) -> Reading:
    """Reads labels from features, beside controls and permutations.

    Args:
        x: [sample, width].
        labels: [sample], numbers of classes.
        types: [sample], that control labels go by.
        groups: [sample], that are never on both sides of a split.
        seed: of the folds, the controls and the permutations.
        controls: control tasks, 2 or more.
        permutations: of the labels, 1 or more.
        like: labels of which control labels are drawn, each as often as there; None: ``labels``. For labels that were
            drawn for types themselves: those from which they were.

    Raises:
        LabError: labels of one class, fewer samples than classes, fewer groups than folds, too few controls or
            permutations.
    """
    from scipy import stats

    _check(labels, groups, controls, permutations)
    drawn_from = labels if like is None else like
    classes = int(max(labels.max(), drawn_from.max())) + 1
    # Seeds apart from each other's, and from those of other seeds.
    sets = [labels]
    sets += [control_labels(types, drawn_from, 10_000 * seed + each) for each in range(controls)]
    sets += [permuted_labels(labels, groups, 10_000 * seed + 5000 + each) for each in range(permutations)]
    right = np.zeros(len(sets))
    tuned, commonest = [], 0
    for train, test in _folds(groups, FOLDS, seed):
        penalty, score = _tune(x[train], labels[train], groups[train], classes, seed)
        tuned.append(score)
        guessed = _guessed(x[train], [each[train] for each in sets], x[test], penalty, classes)  # [set, sample]
        right += [(guess == each[test]).sum() for guess, each in zip(guessed, sets, strict=True)]
        commonest += int((labels[test] == np.bincount(labels[train]).argmax()).sum())
    accuracies = right / len(labels)
    own, on_controls, on_permuted = accuracies[0], accuracies[1 : controls + 1], accuracies[controls + 1 :]
    return Reading(
        accuracy=float(own),
        chance=commonest / len(labels),
        tuned=float(np.mean(tuned)),
        control=float(on_controls.mean()),
        selectivity=float(own - on_controls.mean()),
        # One more set of labels of the same kind would fall within this of their mean: a prediction interval.
        half_width=float(stats.t.ppf(0.975, controls - 1) * on_controls.std(ddof=1) * math.sqrt(1 + 1 / controls)),
        permuted=float(on_permuted.mean()),
        permuted_high=float(np.quantile(on_permuted, 0.95)),
        p=float((1 + (on_permuted >= own).sum()) / (1 + permutations)),
    )


def _check(labels: Numbers, groups: Numbers, controls: int, permutations: int) -> None:
    classes = len(np.unique(labels))
    if classes < 2 or len(labels) <= classes:
        raise LabError(
            f"a probe of {len(labels)} samples of {classes} classes cannot be fitted: it needs two classes, and more "
            "samples than classes",
            key="labels",
        )
    if (count := len(np.unique(groups))) < FOLDS + 1:
        raise LabError(
            f"the samples come from {count} groups, and {FOLDS + 1} are needed, so that each can be tested by a probe "
            "of others: give more documents",
            key="documents",
        )
    if controls < 2 or permutations < 1:
        raise LabError(
            f"{controls} control tasks and {permutations} permutations: 2 are needed for a spread, and 1",
            key="controls",
        )


def _folds(groups: Numbers, count: int, seed: int) -> Iterator[tuple[Numbers, Numbers]]:
    """(training, test) samples; groups are dealt out in an order drawn by ``seed``."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    for each in range(count):
        inside = np.isin(groups, names[each::count])
        yield np.flatnonzero(~inside), np.flatnonzero(inside)


def _tune(x: Features, labels: Numbers, groups: Numbers, classes: int, seed: int) -> tuple[float, float]:
    """The penalty that does best over folds of groups, and its mean accuracy there."""
    scores = dict.fromkeys(PENALTIES, 0.0)
    for train, test in _folds(groups, INNER, seed):
        for penalty in PENALTIES:
            (guessed,) = _guessed(x[train], [labels[train]], x[test], penalty, classes)
            scores[penalty] += float((guessed == labels[test]).mean()) / INNER
    best = max(PENALTIES, key=lambda penalty: scores[penalty])
    return best, scores[best]


def _guessed(x: Features, sets: Sequence[Numbers], of: Features, penalty: float, classes: int) -> npt.NDArray[np.int64]:
    """[set, sample]: what probes fitted on ``x`` and each set of labels say of other features."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wanted = np.concatenate([np.eye(classes, dtype=np.float32)[each] for each in sets], axis=1)  # [sample, set x class]
    probe = make_pipeline(StandardScaler(), Ridge(alpha=penalty))
    said = probe.fit(x, wanted).predict(of).reshape(len(of), len(sets), classes)
    guessed: npt.NDArray[np.int64] = said.argmax(-1).T
    return guessed
