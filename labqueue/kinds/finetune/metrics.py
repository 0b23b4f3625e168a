"""Declares the metrics and artifacts of a fine-tuning run, for reports and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labqueue.domain.declarations import DIVERGED, LAB, PEAK_MEMORY, ArtifactUse, Metric
from labqueue.kinds.finetune.loss_curve import MEASURED

if TYPE_CHECKING:
    from labqueue.kinds.finetune.params import Params

_NATS = "nats/token"

METRICS = {
    "eval_loss": Metric(_NATS, "lower", "held_out", "positive", about="loss on held-out rows of data"),
    "*_loss": Metric(_NATS, "lower", "held_out", "positive", about="loss of an extra evaluation (extra_evals)"),
    "exact_answers": Metric("", "higher", "held_out", "share", "scored", about="held-out questions answered exactly"),
    "*_exact": Metric(
        "",
        "higher",
        "held_out",
        "share",
        "extra_evals.*.items",
        about="questions of an extra evaluation answered exactly",
    ),
    "train_loss": Metric(_NATS, "lower", "training", "positive", about="loss of a step, before its update"),
    "update_norm": Metric("", None, "training", "positive", about="norm of the change of all trained weights"),
    "stable_rank": Metric("", None, "training", "positive", about="mean stable rank of the layers' changes"),
    PEAK_MEMORY: LAB[PEAK_MEMORY],
    "step_s": Metric("s", "lower", "cost", "positive", about="median time of a step"),
    "tokens_per_second": Metric("tokens/s", "higher", "cost", "positive", about="training tokens a second, so far"),
    "train_tokens": Metric("tokens", None, "cost", "positive", about="tokens that were trained on"),
    "trainable_parameters": Metric("", None, "cost", "positive", deterministic=True, about="parameters trained"),
    "trainable_share": Metric("", None, "cost", "share", deterministic=True, about="their share of all parameters"),
    DIVERGED: LAB[DIVERGED],
    "learning_rate": Metric("", None, "diagnostic", "positive", about="learning rate of a step"),
    "grad_norm": Metric("", None, "diagnostic", "positive", about="norm of a step's gradient, before clipping"),
    "*_perplexity": Metric("", "lower", "diagnostic", "positive", about="e to the loss of an extra text"),
    "merge_logit_difference": Metric("", "lower", "diagnostic", "positive", about="largest change of a logit"),
    "merge_logit_difference_mean": Metric("", "lower", "diagnostic", "positive", about="mean change of a logit"),
    "merge_loss_difference": Metric(_NATS, None, "diagnostic", about="change of the held-out loss"),
    "gap": Metric(_NATS, None, "diagnostic", about="last held-out loss minus training loss of the last tenth"),
    "eval_loss_min_step": Metric("step", None, "diagnostic", "positive", about="step of the lowest held-out loss"),
    "plateau_step": Metric(
        "step", None, "diagnostic", "positive", nullable=True, about="step from which the loss is flat"
    ),
    "overfit_rise": Metric(_NATS, "lower", "diagnostic", "positive", about="last held-out loss minus the lowest"),
    "overfit": Metric("", "lower", "diagnostic", "yes_no", about="held-out loss rose while training loss fell"),
    "steps_to_80_percent": Metric(
        "step", "lower", "diagnostic", "positive", nullable=True, about="step at 80 % of the total drop"
    ),
}

ARTIFACTS = {
    "samples": ArtifactUse("samples", about="held-out questions with their answers before and after"),
    "item_scores": ArtifactUse("item_scores", about="which questions were answered exactly"),
    "curve_reading": ArtifactUse("curve_summary", MEASURED, "phases", about="what the loss curves show"),
    "trainer_config": ArtifactUse(about="every setting that the trainer held"),
    "token_preview": ArtifactUse(about="training rows token by token, with what carries loss"),
    "evaluations": ArtifactUse(about="what the extra evaluations measure on"),
    "update_by_layer": ArtifactUse(about="norm and rank of each layer's change at the end"),
    "update_norm_over_steps": ArtifactUse(about="norm of each layer's change over steps"),
    "stable_rank_over_steps": ArtifactUse(about="stable rank of each layer's change over steps"),
    "update_spectrum": ArtifactUse(about="singular values of the changes at the end"),
    "adapter": ArtifactUse(about="the trained adapter"),
    "merged": ArtifactUse(about="the base with the adapter folded in"),
    "model": ArtifactUse(about="all weights of a full fine-tuning"),
}


def family_metrics(params: Params) -> list[str]:
    """The metrics of the extra evaluations: a loss each, with the perplexity of a text and the score of a task."""
    names = []
    for each in params.extra_evals:
        names.append(f"{each.name}_loss")
        if each.task is None:
            names.append(f"{each.name}_perplexity")
        if each.score or each.score_always:
            names.append(f"{each.name}_exact")
    return names
