"""Bytes of a fine-tuning step, moment by moment: which tensors a backend holds when. Knows shapes, no torch.

Counted from the sources of transformers 5.17, trl 1.15, peft 0.21, bitsandbytes 0.50.2 and Unsloth 2026.10.9 and, for
Unsloth, from traces of its allocations (docs/memory.md); a test replays a real step of transformers and PEFT op by op
and holds the counts of ``hf`` to it. Letters: h hidden, q and k widths of all query and key heads, I intermediate, V
vocabulary, L layers, T tokens of a micro-batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labqueue.llm.models.shapes import LINEAR, Shape

if TYPE_CHECKING:
    from labqueue.llm.memory.workload import Workload

Items = dict[str, float]

GIB = 2**30

TILE_TOKENS, TILE_COLUMNS = 4096, 32_768
"""TRL's loss head never holds more logits than this tile, bf16 (trl/kernels/chunked_logprob.py, trainer/utils.py)."""

SMALL_CARD_GIB = 24.5
"""Up to here Unsloth's loss works in tiles, above in chunks of rows (unsloth_zoo/fused_losses/fused_linear.py)."""

UNSLOTH_TILE_COLUMNS = 16_384

ATTENTION_BUCKET = 128
"""Unsloth pads queries, keys and values to the next multiple, a whole one where the length is one already, before
cuDNN's attention (unsloth/utils/attention_dispatch.py)."""


def trained(shape: Shape, plan: Workload) -> int:
    """Parameters that are trained."""
    if plan.method == "full":
        return shape.parameters
    return shape.lora_parameters(plan.rank, plan.targets, dora=plan.dora)


def held(shape: Shape, plan: Workload) -> Items:
    """Bytes that stay from the first optimizer step to the last."""
    master = 4.0 if plan.method == "full" else 2.0
    linear = float(shape.linear_parameters)
    other = float(shape.bias_parameters + shape.norm_parameters)
    number = float(trained(shape, plan))
    items: Items = {
        "weights": master * (linear + other),
        "embeddings": master * (shape.embedding_parameters + shape.head_parameters),
        "adapters": 0.0 if plan.method == "full" else 4.0 * number,  # fp32 in this lab (llm/training/lora.py)
        "optimizer": _optimizer(plan.optimizer, number, shape),
    }
    if plan.quantization == "4bit":
        # A byte a block of 64 and an fp32 a block of 256 of those (Dettmers et al. 2023, arXiv:2305.14314, section 3),
        # or without double quantisation an fp32 a block of 64; beside each matrix its two code tables, rounded up to
        # the allocator's 512 bytes.
        small = linear - plan.plain_elements
        items["weights"] = 0.5 * small + 2.0 * (plan.plain_elements + other)
        scale = 1 + 4 / 256 if plan.double else 4
        items["quantization_state"] = small / 64 * scale + shape.layers * len(LINEAR) * 3072
        if plan.backend == "unsloth":
            # Its first evaluation makes a buffer of the size of the first matrix, the queries', then one of the
            # largest; what points into the first keeps it (unsloth/kernels/utils.py).
            items["dequantization"] = 2.0 * (shape.hidden * shape.query + _largest(shape))
    if offloads_embedding(shape, plan):
        items["embeddings"] = master * shape.head_parameters
    return items


def loading(shape: Shape, plan: Workload) -> Items:
    """Bytes while the last matrix is loaded and quantised: more than a short step where the embedding then leaves."""
    items = held(shape, plan)
    for later in ("adapters", "optimizer", "dequantization"):
        items.pop(later, None)
    if plan.method == "lora":
        items["embeddings"] = 2.0 * (shape.embedding_parameters + shape.head_parameters)
        if plan.quantization == "4bit":
            items["dequantization"] = 2.0 * _largest(shape)
    return items


def offloads_embedding(shape: Shape, plan: Workload) -> bool:
    """Whether Unsloth moves the input embedding to the computer's memory.

    It does where an embedding is not shared with the head and the process may allocate less than what Unsloth reserves
    for a training step of one row (unsloth/models/_utils.py, offload_embedding_if_tight; its reserve is in
    unsloth_zoo/block_swap.py, estimate_training_reserve_bytes).
    """
    if plan.backend != "unsloth" or shape.tied:
        return False
    number = float(trained(shape, plan))
    matrices = 2.0 * shape.linear_parameters
    if plan.quantization == "4bit":
        matrices = shape.linear_parameters * (0.5 + 1 / 64)
    loaded = matrices + 2.0 * (shape.embedding_parameters + shape.head_parameters) + 4.0 * number
    logits = 4.0 * min(plan.sequence, 2048) * shape.vocabulary
    reserve = (48.0 * plan.sequence * shape.hidden + logits + 16.0 * number) * 17 / 16 + 2**28
    return plan.may_allocate_gib * GIB - loaded < reserve


def _optimizer(name: str, number: float, shape: Shape) -> float:
    if name == "adamw":
        return 8.0 * number  # two fp32 moments
    if name == "adamw_8bit":
        return number * (2 + 2 * 4 / 256)  # two bytes, and two fp32 maxima a block of 256
    if name == "adafactor":
        return number * 8 / min(shape.hidden, shape.intermediate)  # a row and a column of each matrix, no moment
    return 0.0  # sgd keeps nothing; paged moments lie in managed memory, outside the allocator


def _largest(shape: Shape) -> float:
    """Elements of the largest linear layer of a block."""
    return float(max(rows * columns for rows, columns in map(shape.matrix, LINEAR)))


def moments(shape: Shape, plan: Workload) -> list[Items]:
    """Bytes that come and go, at each moment of a step at which most may be held."""
    return _hf(shape, plan) if plan.backend == "hf" else _unsloth(shape, plan)


def tile(shape: Shape, plan: Workload) -> float:
    """Bytes of the largest single tensor of the loss: a tile of logits, bf16 in TRL, fp32 in Unsloth."""
    rows, columns = _tile_of(shape, plan)
    return (2.0 if plan.backend == "hf" else 4.0) * rows * columns


def _widths(shape: Shape, h: float, q: float, k: float, i: float) -> float:
    return h * shape.hidden + q * shape.query + k * shape.key + i * shape.intermediate


def saved_per_token(shape: Shape, plan: Workload) -> float:
    """Bytes a token that one block keeps for its backward pass, in transformers' own code."""
    adapted = 0 if plan.method == "full" else len(LINEAR if isinstance(plan.targets, str) else plan.targets)
    small = 2.0 * plan.rank * adapted + 4.0 * shape.heads + 8  # x A, the softmax's normaliser, two rsqrt
    if plan.method == "full":
        # fp32 residual stream: both norms' inputs and products, and a bf16 copy for each linear layer.
        return _widths(shape, 26, 4, 4, 8) + small
    if plan.dora:  # beside that the outputs of base and adapter, and the adapter's inputs once more
        small += _widths(shape, 18, 6, 8, 10)
    if plan.quantization == "4bit":
        # Norms keep an fp32 input and a bf16 output; attention q, k, v and output; the MLP four bf16 tensors.
        return _widths(shape, 12, 4, 4, 8) + small
    # PEFT casts every adapter's input to fp32 and autocast back to bf16: a copy each.
    return _widths(shape, 18, 6, 4, 8) + small


def _hf(shape: Shape, plan: Workload) -> list[Items]:
    tokens, hidden, layers = float(plan.tokens), shape.hidden, shape.layers
    number = float(trained(shape, plan))
    full = plan.method == "full"
    stream = 4.0 if full else 2.0  # bytes of an element of the residual stream
    saved = tokens * saved_per_token(shape, plan)
    one = tokens * stream * hidden if plan.checkpointing else saved
    # Nothing is differentiated below the first block, whose first norm then keeps nothing.
    kept = layers * one - (0.0 if plan.checkpointing or full else 4.0 * tokens * hidden)
    block = saved if plan.checkpointing else 0.0  # recomputed beside the checkpoints
    copies = 2.0 * (shape.linear_parameters if full else number)  # autocast's bf16 copies of what is trained
    stay = 0.0 if plan.checkpointing else copies  # without checkpoints the backward pass needs them
    before = 4.0 * number if plan.accumulation > 1 else 0.0  # gradients of earlier micro-batches
    # TRL's head: the rows that are scored, one tile of logits, and going back an fp32 gradient of those rows.
    logits = tile(shape, plan)
    head = 4.0 * shape.embedding_parameters if full else 0.0  # the gradient of the head's weights
    part = 2.0 * hidden * min(shape.vocabulary, TILE_COLUMNS) if full else 0.0  # of its weights, in bf16
    own = 0.0 if full else 4.0 * number / layers  # gradients of the block that is differentiated
    # When the first block is, gradients of all others are there; that of an untied embedding comes last of all.
    late = 4.0 * (shape.linear_parameters / layers + (0 if shape.tied else shape.embedding_parameters)) if full else 0.0
    working, weights = _working(shape, plan)
    found: list[Items] = [
        {"activations": kept + tokens * hidden * (stream + 6) + copies, "logits": logits + part, "gradients": before},
        {
            "activations": kept + tokens * hidden * (stream + 6) + stay,
            "logits": logits + part + tokens * hidden * 6,
            "gradients": max(before, head),
        },
        {"activations": kept + 26.0 * tokens * hidden + stay, "gradients": max(before, head)},
        # The last block is differentiated first, while the inputs of all are kept; the first last, with all gradients.
        {
            "activations": kept + block + working + stay,
            "dequantization": weights,
            "gradients": max(before, head + own),
        },
        {
            "activations": one + block + working + stay / layers,
            "dequantization": weights,
            "gradients": max(before, 4.0 * number - late),
        },
    ]
    if full:  # the embedding's gradient is dense; of a tied head there are that, the head's own and their sum
        twice = 2 * shape.embedding_parameters if shape.tied else 0
        found.append({"activations": tokens * stream * hidden, "gradients": 4.0 * (number + twice)})
    masks = _masks(shape, plan)
    return [moment | {"padding_mask": masks} for moment in found]


def _working(shape: Shape, plan: Workload) -> tuple[float, float]:
    """(activations, weights) in bytes while the MLP of one block is differentiated, beside what it saved."""
    tokens, inner = float(plan.tokens), shape.intermediate
    largest = _largest(shape)
    if plan.method == "full":
        return tokens * (6.0 * inner + 4.0 * shape.hidden), 2.0 * largest  # a bf16 gradient, not yet made fp32
    extra = 0.0
    if plan.dora:
        # PEFT weighs an update by multiplying it to an identity matrix, fp32 and bf16.
        extra = 6.0 * float(inner) ** 2 + tokens * 8.0 * (inner + shape.hidden + shape.query)
    if plan.quantization == "4bit":
        # Gradients of the down projection's input come twice, through adapter and base; the base's is a product with
        # the dequantised matrix, which is gone when both are added.
        working = tokens * (2.0 * inner + 2.0 * shape.hidden) + extra
        return (working, 2.0 * largest) if largest > tokens * inner else (working + 2.0 * tokens * inner, 0.0)
    return tokens * (6.0 * inner + 10.0 * shape.hidden) + extra, 0.0


def _masks(shape: Shape, plan: Workload) -> float:
    """A boolean mask, its bf16 copies for attention, and keys and values repeated for every query head."""
    if not plan.masked:
        return 0.0
    square = float(plan.batch) * plan.sequence**2
    blocks = 1 if plan.checkpointing else shape.layers
    return square * (1 + 2 * blocks) + blocks * plan.tokens * 4.0 * (shape.query - shape.key)


def _unsloth(shape: Shape, plan: Workload) -> list[Items]:
    tokens, hidden, layers = float(plan.tokens), shape.hidden, shape.layers
    number = float(trained(shape, plan))
    padded = 1 + ATTENTION_BUCKET / plan.sequence - plan.sequence % ATTENTION_BUCKET / plan.sequence
    # A layer's norm, attention and output; queries before and after rotation, then padded, and attention's output.
    saved = tokens * _widths(shape, 6, 4 + 4 * padded, 4 * padded, 4)
    # While the MLP is differentiated: gate, up, their product's gradient, and a copy of each of the three; or the three
    # and the up projection's matrix, dequantised outside the buffer (unsloth/kernels/fast_lora.py, backward).
    inner = 12.0 * tokens * shape.intermediate
    if plan.quantization == "4bit":
        inner = max(inner, 6.0 * tokens * shape.intermediate + 2.0 * _largest(shape))
    block = tokens * _widths(shape, 8, 4 + 4 * padded, 4 + 4 * padded, 0) + inner
    embedded = 2.0 * tokens * hidden
    if plan.checkpointing:
        # Inputs of blocks wait in the computer's memory; two buffers bring them back, and the last is never sent.
        buffers = 4.0 * tokens * hidden
        kept, first, last = buffers + 2.0 * tokens * hidden, buffers, block
        product = 0.0
    else:
        kept, first, last = layers * saved, 0.0, block - saved
        product = 2.0 * tokens * shape.intermediate  # the last block's first gradient, before the loss' tile is freed
    rows, _ = _tile_of(shape, plan)
    before = 4.0 * number if plan.accumulation > 1 else 0.0  # gradients of earlier micro-batches
    return [
        {
            "activations": kept + embedded + 4.0 * tokens * hidden + product,
            # Beside the tile the rows that are scored, bf16, and their gradient, fp32.
            "logits": tile(shape, plan) + 6.0 * rows * hidden,
            "gradients": before,
        },
        {"activations": kept + embedded + last, "gradients": before},
        # The first block is differentiated last: its MLP's gradients and those of its attention are still to come.
        {"activations": first + embedded + block, "gradients": max(before, 4.0 * number * (layers - 1) / layers)},
    ]


def _tile_of(shape: Shape, plan: Workload) -> tuple[int, int]:
    """(rows, columns) of the logits that exist at once: TRL's tile; Unsloth's on a small card, else a chunk of rows."""
    tokens, wide = plan.tokens, shape.vocabulary
    small = plan.card_gib <= SMALL_CARD_GIB
    if plan.backend == "hf":
        return min(tokens, TILE_TOKENS), min(wide, TILE_COLUMNS)
    if small or tokens >= TILE_TOKENS:
        rows = min(tokens, TILE_TOKENS)
        step = UNSLOTH_TILE_COLUMNS
        return rows, min(wide, step if small else max(step, 2**28 // (rows * 4) // step * step))
    least = max(512, 1 << int(512 * 151_936 / wide).bit_length() - 1)
    ideal = max(1, tokens * shape.hidden // wide)
    return min(max(1 << ideal.bit_length() - 1, min(least, TILE_TOKENS)), TILE_TOKENS, tokens), wide
