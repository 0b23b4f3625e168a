"""Text to pretrain on and to measure language modelling on: a catalogue, a person's own files, and their tokens."""
