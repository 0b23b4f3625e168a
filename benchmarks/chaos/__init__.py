"""The slow proof that nothing is ever lost. ``python -m benchmarks.chaos all``, or one part by its name.

Everything is done from outside the product: processes are killed by the kernel, disks fill, clocks jump. What happened
is judged from the side-effect file of the drill (one synced line a step, written by the run itself) and only then from
the lab's own tables.
"""
