"""Answers from the ledger: statistics, verdicts, plots, documents."""
