"""Messages to a person: a real worker, real Apprise, and a server of our own that counts what arrives."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from labqueue.worker import notifications
from tests.commands import call
from tests.conftest import Lab, wait_until

QUICK = {"steps": 3, "step_s": 0}


class Server(ThreadingHTTPServer):
    """Keeps every message; ``status`` is what it answers, once ``open`` is set."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        self.asked, self.open = threading.Event(), threading.Event()
        self.open.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"json://someone:hunter2@127.0.0.1:{self.server_address[1]}/token"

    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        self.server.open.wait(60)
        self.server.messages.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def submit(lab: Lab, name: str, **params: Any) -> int:
    answer = call(lab, "submit", lab.spec(name, params={**QUICK, **params}), "--profile", "cpu", "--json")
    assert answer.code == 0, answer.err
    (run,) = answer.json["runs"]
    return int(run)


def events(lab: Lab, kind: str) -> list[str]:
    connection = sqlite3.connect(lab.settings.database)
    found = [text for (text,) in connection.execute("SELECT text FROM events WHERE kind = ? ORDER BY id", (kind,))]
    connection.close()
    return found


def test_a_failed_run_and_the_empty_queue_are_told_once_each(lab: Lab, server: Server) -> None:
    submit(lab, "good")
    failed = submit(lab, "bad", fault="raise", fault_at=2)
    answer = lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY=server.url)
    assert answer.code == 1
    assert server.titles() == [f"labqueue: run {failed} of bad: failed", "labqueue: queue empty"]
    told, empty = server.messages
    assert (told["type"], empty["type"]) == ("failure", "info")
    assert "the drill raises at step 2" in told["message"]
    assert "1 failed, 1 succeeded" in empty["message"]
    assert "hunter2" not in answer.err + json.dumps(server.messages)
    assert lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY=server.url).code == 0
    assert len(server.messages) == 2, "a queue that was empty before is no news"


def test_a_worker_that_stays_tells_of_each_empty_queue_and_reads_the_workspace_file(lab: Lab, server: Server) -> None:
    (lab.root / "labqueue.toml").write_text(f"notify = [{json.dumps(server.url)}]\n")
    worker = lab.start("worker", "--device", "cpu")
    for n in (1, 2):
        submit(lab, f"good{n}")
        wait_until(lambda n=n: len(server.messages) == n)
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert server.titles() == ["labqueue: queue empty"] * 2
    assert [message["type"] for message in server.messages] == ["success"] * 2


def test_what_only_a_person_can_free_is_told(lab: Lab, server: Server) -> None:
    submit(lab, "bad", fault="raise", fault_at=1)
    spec = lab.spec("blocked", params=QUICK, needs=["bad"])
    assert call(lab, "submit", spec, "--profile", "cpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY=server.url).code == 1
    assert server.titles()[1:] == ["labqueue: what still waits needs a person"]


def test_a_worker_that_pauses_the_queue_itself_tells_why(lab: Lab, server: Server) -> None:
    spec = lab.spec("bad", params={**QUICK, "fault": "raise", "fault_at": 1}, seeds=[0, 1, 2, 3])
    assert call(lab, "submit", spec, "--profile", "cpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY=server.url).code == 1
    assert [title.rpartition(": ")[2] for title in server.titles()] == ["failed"] * 3 + ["queue paused"]
    assert "the drill raises at step" in server.messages[-1]["message"]
    assert server.messages[-1]["type"] == "warning"


def test_a_worker_says_that_the_one_before_died(lab: Lab, server: Server) -> None:
    run = submit(lab, "long", steps=200, step_s=0.05)
    first = lab.start("worker", "--device", "cpu", LABQUEUE_NOTIFY=server.url)
    wait_until(lambda: call(lab, "show", run, "--json").json["state"] == "running")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=30)
    assert call(lab, "cancel", run).code == 0
    answer = lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY=server.url)
    assert f"restarted after a crash: the worker before (process {first.pid}) died" in answer.err
    assert server.titles()[0] == "labqueue: worker restarted after a crash"
    assert len(events(lab, "restarted")) == 1
    calm = lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY=server.url)
    assert "restarted" not in calm.err, "the one before ended by itself"
    assert len(events(lab, "restarted")) == 1
    assert call(lab, "status", "--json").json["workers"] == []


def test_a_target_that_refuses_costs_a_line_and_an_event_and_shows_no_password(lab: Lab, server: Server) -> None:
    server.status = 500
    submit(lab, "good")
    answer = lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY=f"{server.url} bogus://hunter2")
    assert answer.code == 0
    (line,) = [line for line in answer.err.splitlines() if "could not notify" in line]
    assert "target 1 (json) did not take it" in line
    assert "target 2 (bogus)" in line
    assert events(lab, "not_notified") == [line]
    assert "hunter2" not in answer.err + answer.out + lab.settings.database.read_bytes().decode(errors="replace")
    assert "Traceback" not in answer.err


def test_a_target_that_hangs_delays_no_run(lab: Lab, server: Server) -> None:
    server.open.clear()
    submit(lab, "bad", fault="raise", fault_at=1)
    worker = lab.start("worker", "--device", "cpu", LABQUEUE_NOTIFY=server.url)
    assert server.asked.wait(30)
    later = submit(lab, "good")
    wait_until(lambda: call(lab, "show", later, "--json").json["outcome"] == "succeeded")
    assert server.messages == [], "the first message has not been answered yet"
    server.open.set()
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0


def test_a_message_that_takes_too_long_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "SEND_S", 1.0)
    server.open.clear()
    problem = notifications.send([server.url], notifications.Message("info", "title", "body"))
    server.open.set()
    assert problem == "no answer within 1 s"


def test_with_no_target_nothing_is_sent_and_nothing_is_wrong(lab: Lab) -> None:
    submit(lab, "bad", fault="raise", fault_at=1)
    answer = lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_NOTIFY="")
    assert "notif" not in answer.err
    assert events(lab, "not_notified") == []


def test_a_wrong_workspace_file_is_said_and_the_queue_goes_on(lab: Lab) -> None:
    (lab.root / "labqueue.toml").write_text("\nnotify = [\n")
    submit(lab, "good")
    environment = {key: value for key, value in os.environ.items() if key != "LABQUEUE_NOTIFY"}
    assert "LABQUEUE_NOTIFY" not in environment
    answer = lab.run("worker", "--drain", "--device", "cpu")
    assert answer.code == 0
    assert "nobody will be notified" in answer.err
    assert "labqueue.toml:" in answer.err


def finding(lab: Lab, *words: str, **extra: str) -> tuple[dict[str, Any], int]:
    answer = call(lab, "doctor", "--json", *words, **extra)
    (found,) = [found for found in answer.json["findings"] if found["what"] == "notifications"]
    return found, answer.code


def test_doctor_says_whether_somebody_is_told_and_sends_a_test(lab: Lab, server: Server) -> None:
    nobody, _ = finding(lab)
    assert (nobody["state"], nobody["found"]) == ("ok", "no target is set")
    assert "LABQUEUE_NOTIFY" in nobody["cure"]
    quiet, _ = finding(lab, LABQUEUE_NOTIFY=server.url)
    assert (quiet["state"], server.messages) == ("ok", [])
    sent, _ = finding(lab, "--notify", LABQUEUE_NOTIFY=server.url)
    assert sent["state"] == "ok"
    assert server.titles() == ["labqueue: test"]
    server.status = 403
    refused, code = finding(lab, "--notify", LABQUEUE_NOTIFY=server.url)
    assert (refused["state"], code) == ("bad", 1)
    unknown, code = finding(lab, LABQUEUE_NOTIFY="bogus://hunter2")
    assert (unknown["state"], code) == ("bad", 1)
    assert "hunter2" not in json.dumps([quiet, sent, refused, unknown])
