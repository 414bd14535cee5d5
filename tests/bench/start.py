"""From start to ready, and the memory that tracing takes: median of ten, cold and warm.

Cold means an empty cache: types from BTF, compiled by BCC, symbols looked up. Ready is when the
FIFO of --ready-file says so; memory is VmRSS one second later.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "live"))
from traced import Trace

SETTLES_AFTER_S = 1
RUNS = 10
WANTED_S = {"cold": 0.8, "warm": 0.2}
WANTED_KB = 35 * 1024
COMMAND = Path(sys.executable).with_name("pmtutrace")


def once(folder: Path) -> tuple[float, int]:
    """Return seconds to ready and resident kilobytes."""
    environment = {"PMTUTRACE_CACHE": str(folder / "cache")}
    began = time.monotonic()
    with Trace(environment=environment, command=[COMMAND]) as tracer:
        took = time.monotonic() - began
        try:
            raise SystemExit(f"the tracer ended with {tracer.child.wait(SETTLES_AFTER_S)}")
        except subprocess.TimeoutExpired:
            status = Path(f"/proc/{tracer.child.pid}/status").read_text()
        tracer.end()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return took, int(line.split()[1])


def main() -> int:
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("cold", "warm"):
            times, sizes = [], []
            for _ in range(RUNS):
                if kind == "cold":
                    shutil.rmtree(folder / "cache", ignore_errors=True)
                took, size = once(folder)
                times.append(took)
                sizes.append(size)
            median = statistics.median(times)
            print(
                f"{kind}: ready after {median:.3f} s (median of {RUNS}, {min(times):.3f} to "
                f"{max(times):.3f}), {max(sizes) / 1024:.1f} MB resident",
                flush=True,
            )
            failed = failed or median > WANTED_S[kind] or max(sizes) > WANTED_KB
    return failed


if __name__ == "__main__":
    sys.exit(main())
