"""Trains a GPT from nothing: model, batches, optimizers, step, validation, and what is kept. Knows nothing of runs."""
