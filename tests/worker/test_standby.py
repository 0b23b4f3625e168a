"""The process that waits for the next run and imports ahead what it will need."""

from __future__ import annotations

from pathlib import Path

from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab

PROBE = """
    import sys
    from labqueue.domain import kind
    class Params(kind.Params):
        pass
    def imports(device):
        return ("wave",)
    def run(params, rec):
        rec.metric("imported_ahead", float("wave" in sys.modules), 1)
"""
"""Says whether its process has a module that nothing else imports."""

MISSING = """
    from labqueue.domain import kind
    class Params(kind.Params):
        pass
    def imports(device):
        return ("no_module_of_this_name",)
    def run(params, rec):
        rec.metric("value", 1.0, 1)
"""


def test_the_next_runs_process_has_imported_what_its_kind_needs(lab: Lab, tmp_path: Path) -> None:
    (site := tmp_path / "site").mkdir()
    extra = own_kinds.install(site, {"probe": PROBE, "missing": MISSING})
    for name in ("probe", "missing"):
        spec = lab.text(f"{{name: {name}, kind: {name}, seeds: [0, 1, 2]}}", name)
        assert lab.run("submit", spec, "--profile", "cpu", **extra).code == 0
    worker = lab.run("worker", "--drain", "--device", "cpu", **extra)
    assert worker.code == 0, worker.err
    probes = call(lab, "report", "probe", "--json").json["runs"]
    by_seed = {run["seed"]: run["metrics"]["imported_ahead"]["last"] for run in probes}
    assert by_seed == {0: 0.0, 1: 1.0, 2: 1.0}
    others = call(lab, "report", "missing", "--json").json["runs"]
    assert [run["outcome"] for run in others] == ["succeeded"] * 3, "what cannot be imported ahead harms no run"
