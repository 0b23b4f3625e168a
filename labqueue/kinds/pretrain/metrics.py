"""What a pretraining run measures and leaves, as reports and checks read it."""

from __future__ import annotations

from labqueue.domain.declarations import LAB, PEAK_MEMORY, ArtifactUse, Metric

_NATS = "nats/token"

METRICS = {
    "eval_loss": Metric(_NATS, "lower", "held_out", "positive", about="loss of the whole validation split"),
    "bits_per_byte": Metric("bits/byte", "lower", "held_out", "positive", about="the same, comparable over tokenizers"),
    "train_loss": Metric(_NATS, "lower", "training", "positive", about="mean loss of the steps since the last value"),
    PEAK_MEMORY: LAB[PEAK_MEMORY],
    "tokens_per_second": Metric("tokens/s", "higher", "cost", "positive", about="training tokens a second, so far"),
    "model_flops_utilization": Metric(
        "", "higher", "cost", "share", nullable=True, about="FLOPs of the model over this device's measured peak"
    ),
    "train_tokens": Metric("tokens", None, "cost", "positive", deterministic=True, about="tokens that were trained on"),
    "parameters": Metric("", None, "cost", "positive", deterministic=True, about="parameters of the model"),
    "initial_excess": Metric(_NATS, None, "diagnostic", about="first loss minus what the initialisation implies"),
    "induction_best": Metric("", None, "diagnostic", "share", nullable=True, about="highest induction score of a head"),
    "induction_null": Metric("", None, "diagnostic", "share", nullable=True, about="of any head where nothing repeats"),
    "previous_token_best": Metric(
        "", None, "diagnostic", "share", nullable=True, about="highest weight of a head on the previous token"
    ),
    "previous_token_null": Metric(
        "", None, "diagnostic", "share", nullable=True, about="that head's weight two or three before"
    ),
    "learning_rate": Metric("", None, "diagnostic", "positive", about="learning rate of a step"),
    "grad_norm": Metric("", None, "diagnostic", "positive", about="norm of a step's gradient, before clipping"),
}

ARTIFACTS = {
    "recipe": ArtifactUse(about="model, recipe, corpus and way of computing, nothing left out"),
    "gradient_norm_by_layer": ArtifactUse(about="norm of each layer's gradient at the evaluations"),
    "update_by_layer": ArtifactUse(about="size of each layer's update, as a share of its weights, at the evaluations"),
    "induction_by_step": ArtifactUse(about="induction score of each head at the steps that were looked at"),
    "previous_token_by_step": ArtifactUse(about="weight of each head on the previous token at those steps"),
    "final": ArtifactUse(about="the model at the end, as a folder of transformers with its tokenizer"),
}
