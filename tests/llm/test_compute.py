"""What this computer's processor is to a run: the type it computes in, its cores, its memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labqueue.domain.errors import LabError
from labqueue.kinds import finetune, generate
from labqueue.kinds.finetune import memory
from labqueue.llm import processor
from labqueue.llm.memory import host, workload
from labqueue.llm.models import load, shapes
from labqueue.llm.processor import Speeds
from tests.commands import REPOSITORY

FAST, SLOW = Speeds(bfloat16=500.0, float32=120.0), Speeds(bfloat16=2.0, float32=30.0)


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and no override."""
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(processor.OVERRIDE, raising=False)
    yield tmp_path / "cache"
    processor._processor.cache_clear()
    processor._speeds.cache_clear()


def keep(found: Speeds, *, tries: int = 1, quiet: bool = True) -> None:
    """Writes down what was measured here, as an earlier process would."""
    processor._Measured(found, tries, quiet).write(processor._kept())
    processor._speeds.cache_clear()


def params(**fields: object) -> finetune.Params:
    given = {"model": "random-tiny", "data": {"task": "chain_sum", "train_items": 64, "eval_items": 4}, **fields}
    return finetune.Params.model_validate_json(json.dumps(given))


@pytest.mark.parametrize(("found", "dtype"), [(FAST, "bfloat16"), (SLOW, "float32"), (Speeds(50, 50), "float32")])
def test_a_run_on_a_cpu_computes_in_what_its_processor_is_faster_in(found: Speeds, dtype: str) -> None:
    keep(found)
    assert processor.cpu_dtype() == dtype
    assert finetune.resolved(params(), "cpu").dtype == dtype
    assert finetune.resolved(params(dtype="float32"), "cpu").dtype == "float32"
    assert finetune.resolved(params(), "cuda").dtype == "auto", "the card decides when it is there"
    assert finetune.resolved(params(method="full", quantization="none"), "cpu").dtype == "float32"
    asked = generate.Params.model_validate_json(json.dumps({"model": "random-tiny", "questions": ["1 + 1"]}))
    assert generate.resolved(asked, "cpu").dtype == dtype


def test_without_its_fast_instructions_a_processor_is_measured_again_and_computes_in_float32(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(FAST)
    assert processor.cpu_dtype() == "bfloat16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    processor._kept().write_text("half a fi")  # a damaged file is as none
    assert processor.cpu_dtype() == "float32"
    found = json.loads(processor._kept().read_text())
    assert found["float32"] > processor.FASTER * found["bfloat16"] > 0
    assert sorted(path.suffix for path in kept.iterdir()) == [".json", ".json"], "one for each, and nothing aside"


def test_what_was_measured_beside_other_work_is_measured_again_and_the_best_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else whoever first asked on a busy afternoon is told twice the time ever after."""
    found = iter([(Speeds(5, 14), False), (Speeds(4, 28), False), (Speeds(5.5, 25), True), (Speeds(9, 90), True)])
    monkeypatch.setattr(processor, "_in_a_process", lambda: next(found))

    def a_later_command() -> Speeds:
        processor._speeds.cache_clear()
        return processor.speeds()

    assert a_later_command() == Speeds(5, 14)
    assert processor.speeds() == Speeds(5, 14), "once in a process"
    assert a_later_command() == Speeds(5, 28)
    assert a_later_command() == Speeds(5.5, 28)
    assert a_later_command() == Speeds(5.5, 28), "the third had the computer to itself"
    keep(Speeds(5, 14), tries=processor.TRIES, quiet=False)
    assert a_later_command() == Speeds(5, 14), "a computer that is never quiet is not measured for ever"


def test_a_later_measurement_changes_no_type_that_was_chosen() -> None:
    assert Speeds(50, 40).best(Speeds(50, 60)) == Speeds(50, 40), "runs of another type would be other runs"
    assert Speeds(50, 40).best(Speeds(70, 30)) == Speeds(70, 40)


@pytest.mark.parametrize(("others", "quiet"), [(0.0, True), (1.0, False)])
def test_whether_others_computed_while_it_was_measured_is_read_from_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: float, quiet: bool
) -> None:
    """A machine of two processors for ten seconds, in which this process uses two and others as much as is said."""
    monkeypatch.setattr(processor, "STAT", tmp_path / "stat")
    monkeypatch.setattr(time, "process_time", lambda: 3.0)
    tick = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0\n")
    seen = processor._Others()
    monkeypatch.setattr(time, "process_time", lambda: 5.0)
    user, stolen, idle = round(2 * tick), round(8 * others * tick), round((18 - 8 * others) * tick)
    (tmp_path / "stat").write_text(f"cpu  {user} 0 0 {idle} 0 0 0 {stolen} 0 0\ncpu0 0\n")
    assert seen.share() == pytest.approx(0.4 * others)
    assert (seen.share() <= processor.QUIET) == quiet
    (tmp_path / "stat").unlink()
    assert processor._Others().share() == 0.0


def test_the_override_decides_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.OVERRIDE, "float32")
    assert processor.cpu_dtype() == "float32"
    monkeypatch.setenv(processor.OVERRIDE, "bfloat61")
    with pytest.raises(LabError, match=r"LABQUEUE_CPU_DTYPE is 'bfloat61': did you mean 'bfloat16'"):
        processor.cpu_dtype()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="AVX2 is of x86")
def test_a_processor_without_avx2_is_told_before_anything_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Old Core\nflags\t\t: fpu sse2 avx\n\nprocessor\t: 1\n")
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    processor._processor.cache_clear()
    asked = generate.Params.model_validate_json(json.dumps({"model": "random-tiny", "questions": ["1 + 1"]}))
    for attempt in (
        lambda: finetune.check(params(dtype="float32"), "cpu"),
        lambda: generate.check(asked, "cpu"),
        lambda: load.load_model("random-tiny", dtype="float32"),
        processor.speeds,
    ):
        with pytest.raises(LabError, match=r"this processor \(Old Core\) has no AVX2"):
            attempt()


def quickstart(dtype: str) -> finetune.Params:
    from labqueue.submission import specfile

    spec = specfile.read(REPOSITORY / "jobs" / "quickstart.yaml").data["params"]
    return finetune.Params.model_validate_json(json.dumps(spec | {"dtype": dtype}))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_quickstart_needs_less_than_8_gib_and_4_are_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    group = tmp_path / "groups" / "user" / "shell"
    group.mkdir(parents=True)
    (tmp_path / "mine").write_text("0::/user/shell\n")
    monkeypatch.setattr(processor, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(processor, "MY_CGROUP", tmp_path / "mine")
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{8 * 2**30}\n")
    assert processor.memory_gib() <= 8.0
    finetune.check(quickstart(dtype), "cpu")
    (group.parent / "memory.max").write_text(f"{int(3.9 * 2**30)}\n")
    with pytest.raises(LabError, match=r"needs about \d\.\d GiB of memory beside .* this one has 3\.9 GiB") as raised:
        finetune.check(quickstart(dtype), "cpu")
    assert raised.value.key == "model"


def test_cores_are_those_that_affinity_and_every_control_group_around_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CGROUPS", tmp_path)
    monkeypatch.setattr(processor, "MY_CGROUP", tmp_path / "mine")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    assert processor.cores() == 12, "no control groups at all"
    inner = tmp_path / "slice" / "session"
    inner.mkdir(parents=True)
    (tmp_path / "mine").write_text("0::/slice/session\n")
    (inner / "cpu.max").write_text("max 100000\n")
    assert processor.cores() == 12
    (inner.parent / "cpu.max").write_text("350000 100000\n")
    assert processor.cores() == 3, "a fourth thread would have all wait"
    (inner / "cpu.max").write_text("20000 100000\n")
    assert processor.cores() == 1
    first = tmp_path / "cpu,cpuacct" / "docker"
    first.mkdir(parents=True)
    (tmp_path / "mine").write_text("5:memory:/docker\n4:cpu,cpuacct:/docker\n0::/\n")
    (first / "cpu.cfs_quota_us").write_text("-1\n")
    (first / "cpu.cfs_period_us").write_text("100000\n")
    assert processor.cores() == 12
    (first / "cpu.cfs_quota_us").write_text("600000\n")
    assert processor.cores() == 6


def test_what_a_person_set_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("GOMP_SPINCOUNT", "11")
    processor.prepare_threads()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["GOMP_SPINCOUNT"]) == ("7", "11")
    monkeypatch.delenv("OMP_NUM_THREADS")
    processor.prepare_threads()
    assert os.environ["OMP_NUM_THREADS"] == str(processor.cores())


@pytest.mark.parametrize(
    ("fields", "device", "message"),
    [
        ({"dtype": "bfloat16", "method": "full", "quantization": "none"}, "cpu", "computes in its weights' float32"),
        ({"dtype": "float32"}, "cuda", "on a GPU runs compute in 16 bit"),
    ],
)
def test_a_type_that_a_run_could_not_compute_in_is_refused(
    fields: dict[str, object], device: str, message: str
) -> None:
    with pytest.raises(LabError, match=message) as raised:
        finetune.check(params(**fields), device)
    assert raised.value.key == "dtype"


def test_a_predicted_time_follows_the_processor_the_type_and_the_work() -> None:
    shape = shapes.shape_of("smollm2-135m-instruct")
    plan = workload.Workload(sequence=64, batch=4, checkpointing=False)
    work = host.Work(steps=12, evaluated=72, answered=32, new_tokens=5)

    def takes(found: Speeds, dtype: str, cores: int = 2, work: host.Work = work) -> float:
        return host.seconds(shape, plan, work, dtype, found, cores)

    assert takes(FAST, "bfloat16") < takes(FAST, "float32") < takes(SLOW, "float32") < takes(SLOW, "bfloat16")
    assert takes(SLOW, "float32", cores=8) < takes(SLOW, "float32")
    twice = host.Work(24, 144, 64, 5)
    alone = takes(SLOW, "float32", work=host.Work(0, 0, 0, 5))
    assert takes(SLOW, "float32", work=twice) - alone == pytest.approx(2 * (takes(SLOW, "float32") - alone))
    whole = workload.Workload(sequence=64, batch=4, checkpointing=False, quantization="none")
    assert host.memory_gib(shape, whole, "float32") > host.memory_gib(shape, whole, "bfloat16")
    same = {host.memory_gib(shape, plan, dtype) for dtype in ("float32", "bfloat16")}
    assert len(same) == 1, "all but 4-bit weights is float32 whatever is computed in"


def test_the_quickstart_is_foretold_alike_before_its_model_was_converted_and_half_as_many_tokens_take_less() -> None:
    """In the fresh clone in which it is first asked there is no tokenizer: by bytes it was told half as long again."""
    keep(Speeds(bfloat16=5.0, float32=28.0))
    plain = quickstart("float32")
    memory._padded.cache_clear()
    tokens = memory.typical_tokens(plain)
    assert tokens == pytest.approx(53, abs=6), "rows of 50 to 53 tokens in a run that was looked at"
    took = finetune.expected_s(plain, "cpu")
    short = plain.model_copy(update={"data": plain.data.model_copy(update={"template": "chatml"})})
    less = finetune.expected_s(short, "cpu")
    assert took is not None
    assert less is not None
    assert 60 < took < 110, "82 s on two quiet cores of that speed"
    assert 0.6 * took < less < 0.9 * took
    memory._padded.cache_clear()
