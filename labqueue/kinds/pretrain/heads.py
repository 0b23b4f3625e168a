"""Looks at the attention heads of a model in training, every so many steps: scores, and the maps of a pinned text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.kinds.pretrain.params import Params
    from labqueue.llm.corpora.token_files import TokenizedCorpus
    from labqueue.llm.pretraining.gpt import GPT
    from labqueue.llm.types import Json

MAP_TOKENS = 128
"""Tokens of the pinned text, at most: 36 heads of it take 0.6 MB a step."""

REPEATED, FEWEST = 25, 4
"""Random tokens that come twice: so many where context and vocabulary have room, and no fewer than the second."""

SEQUENCES = 4

SCORES = ("induction", "previous_token")


class HeadProbe:
    """What the heads of one run do, step by step."""

    def __init__(self, params: Params, rec: Recorder, corpus: TokenizedCorpus, steps: int, context: int) -> None:
        """Pins the text: the beginning of the validation split.

        Raises:
            LabError: too few tokens for anything to come twice.
        """
        every = params.probe_every
        self.steps = set() if every is None else {*range(0, steps + 1, every), steps}
        self.found: dict[int, dict[str, list[list[float]]]] = {}
        """By step and score: [layer][head]."""
        self._rec, self._tokenizer, self._seed = rec, corpus.tokenizer, rec.seed
        self._length = min(REPEATED, (len(corpus.tokenizer) - FEWEST) // 2, (context - 1) // 2)
        if every is not None and self._length < FEWEST:
            raise LabError(
                f"probe_every scores heads on {FEWEST} or more random tokens that come twice, and "
                f"{len(corpus.tokenizer)} tokens with a context of {context} leave {self._length}: take a longer "
                "context, or leave it out",
                key="probe_every",
            )
        # A quarter to spare: where a character is cut, the text has more tokens than it was made of.
        pinned = corpus.validation[: min(context, MAP_TOKENS) * 3 // 4]
        self._text = str(corpus.tokenizer.decode([int(each) for each in pinned]))

    def about(self) -> Json:
        """What a resume takes up, as JSON."""
        return {"found": list(self.found.items())}

    def restore(self, about: Json) -> None:
        """Takes up what an earlier attempt had found."""
        self.found = dict(about["found"])

    def look(self, number: int, model: GPT) -> None:
        """Scores the heads after a step, once, where it is one of those; keeps the maps of the pinned text.

        Draws nothing from the random state that training draws from.
        """
        if number not in self.steps or number in self.found:
            return
        from labqueue.llm.interp import head_scores
        from labqueue.llm.interp.stored_maps import store_maps
        from labqueue.llm.pretraining import hf_folder

        opened = hf_folder.in_memory(model)
        scores = head_scores.score_repetition(
            opened, self._tokenizer, length=self._length, batch=SEQUENCES, seed=self._seed
        )
        scores |= head_scores.score_text(opened, self._tokenizer, [self._text])
        induction, previous = scores["induction"], scores["previous_token"]
        self._rec.metric("induction_best", float(induction.value.max()), number)
        self._rec.metric("induction_null", float(induction.null.max()), number)
        self._rec.metric("previous_token_best", float(previous.value.max()), number)
        self._rec.metric("previous_token_null", float(previous.null.flatten()[previous.value.argmax()]), number)
        self.found[number] = {name: scores[name].value.tolist() for name in SCORES}
        for name in SCORES:
            self._rec.artifact(f"{name}_by_step", self._curve(name))
        path = self._rec.directory / "maps.bin"
        store_maps(opened, self._tokenizer, self._text, path, name=f"step {number}")
        self._rec.artifact(f"maps_{number:06d}", artifacts.Tensor(path=path))
        path.unlink()

    def _curve(self, name: str) -> artifacts.Curve:
        steps = sorted(self.found)
        first = self.found[steps[0]][name]
        return artifacts.Curve(
            x_label="step",
            y_label=f"{name} score",
            x=tuple(map(float, steps)),
            series={
                f"{layer}.{head}": tuple(self.found[step][name][layer][head] for step in steps)
                for layer, heads in enumerate(first)
                for head in range(len(heads))
            },
        )
