"""Compares the heads of a base with those of two adapters of different training seeds, and patches the moved ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.domain.errors import LabError
from labqueue.kinds import _inside
from labqueue.kinds.attention.heads import grid, texts_of
from labqueue.kinds.attention.params import Moved, Params

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.data.generated.tasks import Row
    from labqueue.llm.interp.encoding import Encoded
    from labqueue.llm.interp.moved_heads import Changes, PatchedBack

TUNED_ON = "held-out rows"
"""The kind of text that the adapters were trained for; the other is ``texts`` or passages."""

SHOWN = 20
"""Heads in the table."""


def compare(params: Params, moved: Moved, rec: Recorder) -> None:
    """Records how far each head moved, how stable that is, and what the most moved ones are worth.

    Raises:
        LabError: see the kind's ``run``.
        Stopped: asked to stop.
    """
    from labqueue.llm.data import tokenize
    from labqueue.llm.evaluation.generate import positions
    from labqueue.llm.interp import moved_heads
    from labqueue.llm.interp.encoding import of_rows
    from labqueue.llm.models import adapter_folder, pins

    folder, rival = Path(str(params.adapter)), Path(moved.rival)
    pins.check_folder(moved.rival, moved.rival_pin, "moved.rival")
    loaded, model = _inside.loaded(params, rec)
    adapted = adapter_folder.add(model, loaded, rival, "rival")
    # The template and the end of an answer are those that the adapter was trained with.
    tokenizer = adapter_folder.with_tokenizer(loaded, folder).tokenizer
    rows = _rows(moved)
    length = min(moved.max_length, positions(adapted) or moved.max_length)
    looked_at, scored_on = (tokenize.encode(tokenizer, each, length, "held-out").rows for each in rows)
    texts: dict[str, list[str | Encoded]] = {
        TUNED_ON: [of_rows(tokenizer, [row])[0] for row in looked_at],
        "texts": [*texts_of(params, loaded.tokenizer, rec.seed)],
    }
    done, total = 0, sum(len(each) for each in texts.values()) + moved.draws + 3

    def tell() -> None:
        nonlocal done
        done += 1
        _inside.tell(rec, done, total)

    rec.progress(0, total)
    base, tuned = moved_heads.variants(adapted, ("default", "rival"))
    found = moved_heads.changes(base, tuned, tokenizer, texts, tell)
    _record_changes(found, moved, rec)
    batch, scored = of_rows(tokenizer, scored_on)
    patched = moved_heads.patch_back(
        base, tuned[0], batch, scored, found.moved, count=moved.heads, draws=moved.draws, seed=rec.seed, tell=tell
    )
    _record_patched(patched, rec)


def _rows(moved: Moved) -> tuple[list[Row], list[Row]]:
    """Held-out rows to look at, and others to score.

    Raises:
        LabError: there are fewer than that; the data cannot be loaded.
    """
    found = moved.data.load().held_out
    if len(found) < moved.rows + moved.scored_rows:
        raise LabError(
            f"moved.rows {moved.rows} and moved.scored_rows {moved.scored_rows} are of {len(found)} held-out rows: "
            "raise data.eval_items here and in the spec of the fine-tuning, or ask for fewer",
            key="moved.rows",
        )
    return list(found[: moved.rows]), list(found[moved.rows : moved.rows + moved.scored_rows])


def _record_changes(found: Changes, moved: Moved, rec: Recorder) -> None:
    from labqueue.llm.interp.head_scores import best

    rec.metric("change", float(found.moved.mean()), 0)
    rec.metric("change_floor", float(found.floor.mean()), 0)
    rec.metric("above_floor", found.above_floor, 0)
    rec.metric("seed_rank", found.between_seeds(), 0)
    rec.metric("seed_rank_null", found.null("seeds", seed=rec.seed)[1], 0)
    rec.metric("text_rank", found.between_texts(), 0)
    rec.metric("text_rank_null", found.null("texts", seed=rec.seed)[1], 0)
    rec.artifact("change_over_floor", grid("change over floor", found.share, "1"))
    rec.artifact("change_by_head", grid("change", found.moved, "total variation a row"))
    rows = []
    for layer, head in best(found.moved, min(max(SHOWN, moved.heads), found.moved.numel())):
        by_text = (round(float(each[layer, head]), 4) for each in found.change.mean(0))
        times = float(found.share[layer, head])
        floor = round(float(found.floor[layer, head]), 4)
        rows.append((f"{layer}.{head}", *by_text, floor, None if math.isnan(times) else round(times, 2)))
    columns = ("layer.head", *(f"change, {each}" for each in found.texts), "floor", "change over floor")
    rec.artifact("moved", artifacts.Table(columns=columns, rows=tuple(rows)))


def _record_patched(patched: PatchedBack, rec: Recorder) -> None:
    rec.metric("base_loss", patched.base, 0)
    rec.metric("tuned_loss", patched.tuned, 0)
    rec.note(f"patched back: {', '.join(f'{layer}.{head}' for layer, head in patched.heads)}")
    random = patched.given_back_at_random
    shares = {
        "given_back": patched.given_back,
        "given_back_random": sum(random) / len(random),
        "given_back_random_high": max(random),
        "given_back_excess": patched.given_back - sum(random) / len(random),
    }
    for name, value in shares.items():
        rec.metric(name, None if math.isnan(value) else value, 0)
