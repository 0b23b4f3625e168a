"""Executes a pretraining run: its corpus, its model, its loop."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from labqueue.domain import artifacts, kind
from labqueue.kinds.pretrain import params as parameters
from labqueue.kinds.pretrain.params import Params

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.corpora.token_files import TokenizedCorpus
    from labqueue.llm.pretraining.train_step import TrainStep


def run(params: Params, rec: Recorder) -> None:
    """Trains one model; see the package's docstring.

    Raises:
        UserError: a parameter that only showed itself wrong here (a corpus shorter than a context, say).
        Stopped: asked to stop, and checkpointed.
    """
    from labqueue.domain.errors import LabError, Unavailable, WorkFailed

    try:
        _run(params, rec)
    except (WorkFailed, Unavailable):
        raise
    except LabError as error:
        raise kind.UserError(str(error)) from error


def _run(params: Params, rec: Recorder) -> None:
    from labqueue.kinds.pretrain.loop import Loop
    from labqueue.llm.memory import device
    from labqueue.llm.pretraining import checkpoint
    from labqueue.llm.pretraining.gpt import GPT
    from labqueue.llm.pretraining.train_step import TrainStep

    corpus = _corpus(params, rec)
    config = parameters.config(params, params.vocabulary or parameters.rows_for(corpus.vocabulary))
    recipe = parameters.recipe(params)
    device.reset_peak(rec.device)
    model = GPT(config, seed=rec.seed).to(rec.device)
    step = TrainStep(model, corpus.train, recipe, parameters.way(params), seed=rec.seed, device=rec.device)
    loop = Loop(params, rec, step, corpus)
    done = 0
    if rec.resume_from is not None:
        loop.restore(checkpoint.restore(rec.resume_from.path, step))
        done = rec.resume_from.step
        if changed := checkpoint.differences(rec.resume_from.path, step):
            rec.note(
                f"resumed at step {done} in other circumstances ({'; '.join(changed)}): the same batches and rates, "
                "but losses may differ in their last digits from an uninterrupted run's"
            )
    _describe(params, rec, step, corpus)
    rec.progress(done, recipe.steps)
    step.prepare()
    loop.run(done)


def _corpus(params: Params, rec: Recorder) -> TokenizedCorpus:
    from labqueue.llm.corpora import token_files
    from labqueue.system.files import cache_folder

    try:
        corpus = token_files.prepare(
            params.corpus,
            params.tokenizer,
            cache_folder(),
            validation_share=params.validation_share,
            sha256=params.corpus_sha256,
            progress=lambda done, total: rec.progress(done, total, phase="tokenizing"),
            leave=lambda: rec.should_stop is not None,
        )
    except token_files.Interrupted:
        raise kind.Stopped(str(rec.should_stop)) from None
    context = parameters.config(params, 2).context
    token_files.check_fits(corpus, context=context, embedding=params.vocabulary)
    return corpus


def _describe(params: Params, rec: Recorder, step: TrainStep, corpus: TokenizedCorpus) -> None:
    """What is about to be trained on what, recorded before it is."""
    config, recipe = step.model.config, step.recipe
    epochs = recipe.steps * step.tokens / len(corpus.train)
    rec.note(
        f"corpus {corpus.name}: {len(corpus.train):,} training and {len(corpus.validation):,} validation tokens, "
        f"{corpus.vocabulary:,} different ones; {step.tokens:,} tokens a step, {epochs:.1f} times the training split"
    )
    way = f"{step.way.mode}, products in {step.way.dtype}"
    rec.note(f"{config.class_name or 'no class of transformers'}, {config.parameters:,} parameters; {way}")
    rec.artifact(
        "recipe",
        artifacts.Json(
            data={
                "model": asdict(config),
                "recipe": asdict(recipe),
                "computed": asdict(step.way),
                "corpus": {
                    "name": corpus.name,
                    "licence": corpus.licence,
                    "text_sha256": corpus.text_sha256,
                    "train_tokens": len(corpus.train),
                    "validation_tokens": len(corpus.validation),
                    "validation_bytes": corpus.validation_bytes,
                    "tokenizer": params.tokenizer.model_dump(mode="json"),
                },
            }
        ),
    )


def imports(device: str) -> tuple[str, ...]:
    """Torch, on any device."""
    del device
    return ("torch",)


def assets(params: Params) -> list[str]:
    """The corpus, and the model whose tokenizer is used; names of ``labqueue.llm.assets``."""
    named = [f"corpus:{params.corpus}"]
    return [*named, f"tokenizer:{params.tokenizer.model}"] if params.tokenizer.model is not None else named


def pinned(params: Params) -> Params:
    """With the content of its corpus and of a model's tokenizer."""
    from labqueue.llm.corpora import catalogue, model_tokenizers

    update: dict[str, object] = {"corpus_sha256": params.corpus_sha256 or catalogue.pin(params.corpus)}
    choice = params.tokenizer
    if choice.model is not None and choice.sha256 is None:
        update["tokenizer"] = choice.model_copy(update={"sha256": model_tokenizers.pin(choice.model)})
    return params.model_copy(update=update)


def resolved(params: Params, device: str) -> Params:
    """With everything that the preset says written out, and float32 on a CPU, where small products gain nothing."""
    if params.dtype == "auto" and device == "cpu":
        params = params.model_copy(update={"dtype": "float32"})
    return parameters.filled(params)


def preflight(params: Params) -> Params:
    """Two steps of the same shape, with an evaluation, a short sample and a checkpoint."""
    plain = Params()
    same = ("learning_rate", "muon_rate", "min_rate", "schedule", "decay_share", "weight_decay", "beta1", "beta2")
    short = {
        "steps": 2,
        "warmup_steps": 0,
        "evaluations": 0,
        "prompts": params.prompts[:1],
        "sample_tokens": min(params.sample_tokens, 4),
        "kept": "none" if params.kept == "none" else "final",
        "checkpoint_every": 1,
        "checkpoint_minutes": plain.checkpoint_minutes,
    }
    # A rate for Muon stays refused beside AdamW.
    return params.model_copy(update={name: getattr(plain, name) for name in same} | short)
