"""Reads why queued runs wait, for the pages that explain: the transactions keep it, nothing here decides it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from labqueue.domain.state import Waiting
from labqueue.domain.views import WaitingView
from labqueue.domain.waiting import Reason, describe
from labqueue.store.runs import search_state
from labqueue.store.runs.eligibility import FOREVER, pauses, still_paused
from labqueue.store.tables import Experiment, Need, Run, WaitingReason
from labqueue.system import clock


class Waits:
    """Answers for many runs of one snapshot of the results store; asks for each job's needs once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pauses = pauses(connection)
        self._names: dict[int, str] = {
            row.id: row.name for row in connection.execute(select(Experiment.c.id, Experiment.c.name))
        }
        self._needs: dict[tuple[int, str], Reason] = {}
        self._plain: set[int] = set()
        self._passed_over: dict[int, Reason] | None = None
        # Thousands of runs wait for one thing: it is worded once. The reason is kept, so that its id stays its own.
        self._views: dict[int, tuple[Reason, WaitingView]] = {}
        self._held = {
            name: Reason(Waiting.PAUSED, {"paused": "experiment", "experiment": name, "reason": reason})
            if name
            else Reason(Waiting.PAUSED, {"paused": "queue", "reason": reason})
            for name, (reason, _) in self._pauses.items()
        }

    @property
    def queue_paused(self) -> str | None:
        """Why the whole queue is paused, or None."""
        return self._pauses[""][0] if "" in self._pauses else None

    def pause_ends(self, run: Any) -> bool:
        """Whether every pause that holds a run ends by itself."""
        switches = [self._pauses.get(key, ("", None))[1] for key in ("", self._names[run.experiment_id])]
        return FOREVER not in (*switches, run.paused_until)

    def view(self, run: Any) -> WaitingView | None:
        """Why this queued run (columns of ``tables.Run``) waits, with its sentence; None when it is next."""
        reason = self.of(run) or self.passed_over(run)
        if reason is None:
            return None
        if id(reason) not in self._views:
            self._views[id(reason)] = reason, WaitingView(str(reason.code), describe(reason))
        return self._views[id(reason)][1]

    def of(self, run: Any) -> Reason | None:
        """Why this queued run is not eligible, or None."""
        held = self._held.get("") or self._held.get(self._names[run.experiment_id])
        if held is not None:
            return held
        if still_paused(run.paused_until):
            forever = run.paused_until == FOREVER
            until = None if forever else clock.iso(clock.Deadline.parse(run.paused_until).unix_s)
            return Reason(Waiting.PAUSED, {"paused": "run", "until": until})
        if run.needs_unmet:
            return self._unmet(run)
        if run.not_before is not None:
            deadline = clock.Deadline.parse(run.not_before)
            if not deadline.passed:
                return Reason(Waiting.BACKOFF, {"left_s": deadline.left_s, "reason": run.reason})
        return None

    def passed_over(self, run: Any) -> Reason | None:
        """Why a worker that looked last passed an eligible run over, or None."""
        if self._passed_over is None:
            self._passed_over = {
                row.run_id: Reason(row.code, row.parameters) for row in self._connection.execute(select(WaitingReason))
            }
        return self._passed_over.get(run.id)

    def _unmet(self, run: Any) -> Reason:
        """What a run needs: what its whole job waits for comes first, then its own rehearsal."""
        whole = (run.job_id, "")
        if run.job_id not in self._plain:
            self._plain.add(run.job_id)
            unmet = self._facts(run.job_id, None)
            if unmet:
                self._needs[whole] = Reason(Waiting.NEEDS, {"unmet": unmet})
        if whole in self._needs:
            return self._needs[whole]
        key = (run.job_id, run.spec_hash)
        if key not in self._needs:
            self._needs[key] = Reason(Waiting.NEEDS, {"unmet": self._facts(*key)})
        return self._needs[key]

    def _facts(self, job: int, spec_hash: str | None) -> list[dict[str, Any]]:
        whose = Need.c.spec_hash.is_(None) if spec_hash is None else Need.c.spec_hash == spec_hash
        query = (
            select(Need.c.needed_job_id, Run.c.id, Run.c.state, Run.c.outcome, Run.c.experiment_id)
            .outerjoin(Run, Run.c.id == Need.c.needed_run_id)
            .where(Need.c.job_id == job, Need.c.met.is_(False), whose)
            .order_by(Need.c.id)
        )
        facts: list[dict[str, Any]] = []
        for row in self._connection.execute(query):
            if row.id is not None:
                facts.append({"run": row.id, "experiment": self._names[row.experiment_id], "state": row.state,
                              "outcome": row.outcome, "rehearsal": spec_hash is not None})  # fmt: skip
                continue
            search = search_state.find(self._connection, row.needed_job_id)
            assert search is not None, "only a job with a search has such a need"
            facts.append({"run": None, "experiment": search.experiment, "recorded": search.recorded,
                          "trials": search.trials})  # fmt: skip
        return facts
