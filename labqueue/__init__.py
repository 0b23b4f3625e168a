"""An LLM learning lab for one person with one GPU: specs, a queue, measured results, answers."""
