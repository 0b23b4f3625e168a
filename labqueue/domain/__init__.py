"""Pure values of the lab: specs, sweeps, states, kinds, artifacts, views. Knows no file, database or model."""
