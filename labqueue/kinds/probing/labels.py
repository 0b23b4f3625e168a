"""Probes each of some layers for labels, beside controls, permutations and the untrained model."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.kinds import _inside
from labqueue.kinds.probing.params import CORPORA, Labels, Params

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.interp.probes.labelled import Labelled
    from labqueue.llm.interp.probes.probe import Reading
    from labqueue.llm.models.load import Loaded


def probe(params: Params, study: Labels, rec: Recorder) -> None:
    """Records what a probe reads from each layer.

    Raises:
        LabError: see the kind's ``run``.
        Stopped: asked to stop.
    """
    from labqueue.llm.interp.probes import probe as probes
    from labqueue.llm.interp.probes import states

    found, model = _inside.loaded(params, rec)
    labelled = _labelled(study, found, rec.seed)
    often = Counter(labelled.classes[label] for label in labelled.labels)
    rows = tuple((name, count) for name, count in often.most_common())
    rec.artifact("classes", artifacts.Table(columns=("class", "samples"), rows=rows))
    rec.metric("samples", len(labelled), 0)
    layers = states.spread(states.depth(model, found.tokenizer), study.layers)
    models = [model] + ([states.untrained(found.model, rec.seed)] if study.untrained else [])
    total = len(models) * (len(labelled.texts) + len(layers))
    done = 0
    readings: list[dict[int, Reading]] = []
    for each in models:
        before = done

        def tell(texts: int, _total: int, before: int = before) -> None:
            _inside.tell(rec, before + texts, total, "reading")

        held = states.states(each, found.tokenizer, labelled, layers, tell)
        done += len(labelled.texts)
        read: dict[int, Reading] = {}
        for layer in layers:
            read[layer] = probes.read(
                held[layer],
                labelled.labels,
                labelled.types,
                labelled.groups,
                seed=rec.seed,
                controls=study.controls,
                permutations=study.permutations if each is model else 1,
            )
            done += 1
            _inside.tell(rec, done, total, "fitting")
        readings.append(read)
    _record(rec, layers, readings[0], readings[1] if study.untrained else None)


def _labelled(study: Labels, found: Loaded, seed: int) -> Labelled:
    from labqueue.llm.corpora import catalogue
    from labqueue.llm.evaluation.generate import positions
    from labqueue.llm.interp.probes import labelled

    documents = list(catalogue.open_corpus(study.corpus or CORPORA[study.of]).documents())
    limit, count = positions(found.model), study.documents
    if study.of == "truth":
        return labelled.truth(documents, found.tokenizer, count=4 * count, seed=seed, limit=limit)
    of_documents = labelled.TASKS[study.of]
    return of_documents(documents, found.tokenizer, count=count, words=study.words, seed=seed, limit=limit)


def _record(rec: Recorder, layers: list[int], read: dict[int, Reading], untrained: dict[int, Reading] | None) -> None:
    for layer, each in read.items():
        rec.metric(f"accuracy_layer_{layer}", each.accuracy, 0)
        rec.metric(f"control_layer_{layer}", each.control, 0)
        rec.metric(f"permuted_layer_{layer}", each.permuted, 0)
        rec.metric(f"selectivity_layer_{layer}", each.selectivity, 0)
        rec.metric(f"selectivity_half_width_layer_{layer}", each.half_width, 0)
        rec.metric(f"p_layer_{layer}", each.p, 0)
        if untrained is not None:
            rec.metric(f"untrained_layer_{layer}", untrained[layer].accuracy, 0)
    # By the folds inside the training groups: the tested accuracy has no say in which layer is called best.
    best = max(layers, key=lambda layer: read[layer].tuned)
    half = layers[len(layers) // 2]
    rec.metric("chance", read[0].chance, 0)
    rec.metric("best_layer", best, 0)
    rec.metric("accuracy_best", read[best].accuracy, 0)
    rec.metric("permuted_best", read[best].permuted_high, 0)
    rec.metric("selectivity_best", read[best].selectivity, 0)
    rec.metric("gain_over_embedding", read[best].accuracy - read[0].accuracy, 0)
    rec.metric("gain_at_half", read[half].accuracy - read[0].accuracy, 0)
    rec.metric("control_falls", read[0].control - read[half].control, 0)
    if untrained is not None:
        rec.metric("untrained_best", untrained[best].accuracy, 0)
        rec.metric("gain_over_untrained", read[best].accuracy - untrained[best].accuracy, 0)
    series = {
        "accuracy": tuple(read[layer].accuracy for layer in layers),
        "control": tuple(read[layer].control for layer in layers),
        "permuted": tuple(read[layer].permuted for layer in layers),
    }
    if untrained is not None:
        series["untrained"] = tuple(untrained[layer].accuracy for layer in layers)
    x = tuple(map(float, layers))
    rec.artifact("by_layer", artifacts.Curve(x_label="layer (0: embedding)", y_label="accuracy", x=x, series=series))
