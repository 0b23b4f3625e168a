"""Slurm on one node, as the anchor of reliability: its own configuration, state and ports in a throwaway folder."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from benchmarks.chaos.peer import TASKS, Peer, call, needed, spawn
from benchmarks.chaos.tracing import Missing

CONFIG = """
ClusterName=chaos
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
SchedulerType=sched/backfill
SelectType=select/cons_tres
NodeName={host} CPUs={cores} State=UNKNOWN
PartitionName=one Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def slurm(folder: Path) -> Peer:
    """``sbatch --requeue``, one job at a time; killed are both daemons, the step daemon and the job.

    Raises:
        Missing: it is not installed, or this user is not root.
    """
    for program, package in (("slurmctld", "slurmctld"), ("slurmd", "slurmd"), ("sbatch", "slurm-client")):
        needed(program, package)
    munged = needed("munged", "munge")
    if os.getuid() != 0:
        raise Missing("Slurm's daemons need root")
    witness = folder / "witness.txt"
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, folder=folder, cores=os.cpu_count()))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    words = {"SLURM_CONF": str(config), "CHAOS_PEER_WITNESS": str(witness)}
    munge = spawn(
        [munged, "--foreground", "--force", f"--socket={folder}/munge.sock", f"--key-file={key}",
         f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"],
        folder,
    )  # fmt: skip
    version = call(["sbatch", "--version"], folder, **words).split(" ")[-1]

    def start() -> None:
        # After the strike slurmd says that its machine was switched off (-b): a job of a living machine that vanished
        # is looked for only minutes later.
        rebooted = ["-b"] if witness.exists() else []
        spawn(["slurmctld", "-D", "-f", str(config)], folder, **words)
        time.sleep(1.0)
        spawn(["slurmd", "-D", "-f", str(config), *rebooted], folder, **words)
        time.sleep(1.0)

    def submit() -> None:
        program = Path(__file__).with_name("peer_tasks.py")
        for number in range(1, TASKS + 1):
            call(
                ["sbatch", "--requeue", "--exclusive", "--output=/dev/null",
                 f"--wrap={sys.executable} {program} {number}"],
                folder, **words,
            )  # fmt: skip

    return Peer("Slurm, one node", version, start, submit, munge.terminate, witness, patience_s=60.0)
