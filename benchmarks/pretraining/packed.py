"""Token files for both sides: ``train.bin``, ``val.bin`` (uint16, as nanoGPT reads them), ``meta.json``. No torch."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
from pathlib import Path

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


def books(folder: Path) -> None:
    """The lab's corpus ``classics`` (Austen, Shakespeare, the World English Bible) in GPT-2's byte pairs, fetched where
    it is not here; validation is the lab's. The vocabulary is padded to 50,304, as nanoGPT's is."""
    from labqueue.llm.corpora import catalogue, model_tokenizers, token_files
    from labqueue.llm.corpora.choice import TokenizerChoice
    from labqueue.system.files import cache_folder

    catalogue.fetch("classics")
    model_tokenizers.fetch("gpt2")
    found = token_files.prepare("classics", TokenizerChoice(kind="model", model="gpt2"), cache_folder())
    write(folder, np.asarray(found.train), 50_304, found.text_sha256, np.asarray(found.validation))


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
