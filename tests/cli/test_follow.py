"""``submit --run``: a worker of its own, followed to the end of the queue."""

from __future__ import annotations

from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab

PIPE_BYTES = 65_536
"""What a pipe holds before its writer stands still: pipe(7)."""

SAYS_MUCH = f"""
from labqueue.domain import kind
class Params(kind.Params):
    pass
def run(params, rec):
    raise kind.UserError("a very long story " * {2 * PIPE_BYTES // 18})
"""


def test_a_worker_that_says_more_than_a_pipe_holds_is_followed_to_the_end(lab: Lab) -> None:
    site = lab.root / "site"
    site.mkdir()
    extra = own_kinds.install(site, {"says_much": SAYS_MUCH})
    spec = lab.text("name: much\nkind: says_much\nseeds: [0, 1]\n", "much")
    answer = lab.run("submit", spec, "--profile", "cpu", "--run", "--json", **extra)
    assert answer.code == 1, answer.err
    runs = [call(lab, "show", run, "--json").json for run in (1, 2)]
    assert [run["outcome"] for run in runs] == ["failed", "failed"]
    assert min(len(run["reason"]) for run in runs) > PIPE_BYTES, "the worker says the reason"


def test_what_kept_the_worker_from_starting_is_said(lab: Lab) -> None:
    worker = lab.start("worker", "--device", "cpu")
    try:
        assert worker.stderr is not None
        assert "worker ready" in worker.stderr.readline()
        answer = call(lab, "submit", lab.spec("drill"), "--profile", "cpu", "--run", "--json")
        assert answer.code == 2
        assert f"process id {worker.pid}" in answer.err
    finally:
        worker.kill()
        worker.communicate(timeout=30)
