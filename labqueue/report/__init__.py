"""Answers from the results store: statistics, verdicts, plots, documents."""
