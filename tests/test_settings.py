"""The workspace's own settings file, and the environment that wins over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from labqueue.domain.errors import LabError
from labqueue.settings import Settings


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABQUEUE_NOTIFY", raising=False)


def test_targets_come_from_the_file_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path)
    assert settings.notify == ()
    (tmp_path / "labqueue.toml").write_text('notify = ["json://a", "ntfy://b"]\n')
    assert settings.notify == ("json://a", "ntfy://b")
    (tmp_path / "labqueue.toml").write_text('notify = "json://c"\n')
    assert settings.notify == ("json://c",), "a change is seen without a restart"
    monkeypatch.setenv("LABQUEUE_NOTIFY", " json://d\n mailto://e:f@g.h?to=i@j,k@l ")
    assert settings.notify == ("json://d", "mailto://e:f@g.h?to=i@j,k@l")
    monkeypatch.setenv("LABQUEUE_NOTIFY", "")
    assert settings.notify == ()


@pytest.mark.parametrize(
    ("text", "words", "line", "key"),
    [
        ("\nnotify = ]", "is not TOML", 2, None),
        ("notfy = []", "did you mean 'notify'?", None, "notfy"),
        ("notify = 3", "list of Apprise URLs", None, "notify"),
        ("notify = [3]", "list of Apprise URLs", None, "notify"),
        ('notify = [""]', "list of Apprise URLs", None, "notify"),
        ("\xff", "cannot be read", None, None),
    ],
)
def test_a_wrong_file_is_named_with_its_cure(
    tmp_path: Path, text: str, words: str, line: int | None, key: str | None
) -> None:
    path = tmp_path / "labqueue.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LabError, match=words.replace("?", r"\?")) as caught:
        _ = Settings(tmp_path).notify
    assert (caught.value.file, caught.value.line, caught.value.key) == (str(path), line, key)
