"""The lab's pretraining beside nanoGPT's ``train.py``, on one card, in one session."""
