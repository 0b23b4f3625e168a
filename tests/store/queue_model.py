"""What the queue should do, on one page of plain Python: no tables, time is a number."""

from types import SimpleNamespace as Run

BACKOFF_S, STALLS = (1, 10, 60, 300), 3


class Model:
    def __init__(self) -> None:
        self.now, self.runs, self.jobs, self.pauses = 0.0, {}, {}, {}

    def submit(self, experiment, device, priority, keys, needs, force):
        job, ids = len(self.jobs) + 1, []
        newest = {name: number for number, (name, _, _) in self.jobs.items()}
        for key in keys:
            same = [r.id for r in self.runs.values() if (r.what, r.outcome) == ((experiment, device, key), "succeeded")]
            if force or not same:
                same = [len(self.runs) + 1]
                self.runs[same[0]] = Run(
                    id=same[0], what=(experiment, device, key), job=job, priority=priority, state="queued",
                    outcome=None, request=None, attempt=0, used=0, stalls=0, paused=0, wait=0, released=False,
                    done=0, best=0, points={}, saved={}, endings=[],
                )  # fmt: skip
            ids.append(same[-1])
        self.jobs[job] = (experiment, ids, [(newest[name], accept) for name, accept in needs])

    def waiting(self, run):
        if max(self.pauses.get("", 0), self.pauses.get(run.what[0], 0), run.paused) > self.now:
            return "paused"
        needed = [(self.runs[i], ok) for job, ok in self.jobs[run.job][2] for i in self.jobs[job][1]]
        good = [r.outcome and (ok is None or r.outcome in ("succeeded", "pruned", *ok)) for r, ok in needed]
        return "needs" if not (run.released or all(good)) else "backoff" if run.wait > self.now else None

    def next(self, device):
        ready = [r for r in self.runs.values() if (r.state, r.what[1], self.waiting(r)) == ("queued", device, None)]
        return max(ready, key=lambda r: (r.priority, -r.id), default=None)

    def claim(self, run):
        run.state, run.attempt, run.request, run.paused, run.wait = "running", run.attempt + 1, None, 0, 0
        run.points = {step: v for step, v in run.points.items() if step <= max(run.saved, default=-1)}

    def save(self, run, step):
        run.saved = dict(sorted(({s: t for s, t in run.saved.items() if s < step} | {step: run.attempt}).items())[-2:])

    def end(self, run, ending, asked=False, limit=3):
        moved = asked or run.done > run.best or run.attempt in run.saved.values()
        if ending == "interrupted" and not moved and run.stalls + 1 >= STALLS:
            ending = "crashed"
        if ending != "disk_full":
            run.stalls = run.stalls + 1 if ending == "interrupted" and not moved else 0
        run.best, run.used = max(run.best, run.done), run.used + (ending == "crashed")
        run.endings, request, run.request = [*run.endings, ending], run.request, None
        if ending in ("interrupted", "disk_full") or (ending == "crashed" and run.used < limit):
            run.wait = self.now + BACKOFF_S[min(run.used, 4) - 1] if ending == "crashed" else 0
            run.state, ending = "queued", "cancelled"
        if run.state == "running" or request == "cancel":
            run.state, run.outcome, run.stalls, run.paused = "finished", ending, 0, 0
            run.saved = {} if ending == "succeeded" else run.saved
