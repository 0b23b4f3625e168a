"""Probes: what can be read off the residual stream by a linear model, beside what could be read off by chance."""
