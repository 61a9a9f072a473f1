"""Clocks and memory of this process, as one line of JSON: the twin of `watch.rs`."""

import contextlib
import json
import time


def status(field):
    """A field of /proc/self/status in KiB: VmRSS is resident now, VmHWM the most that ever was."""
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return None


class Watch:
    """Starts its clocks when it is made. `before`: resident memory before training, if that was
    looked up earlier."""

    def __init__(self, before=None):
        self.wall_ms, self.cpu_ms, self.epochs = [], [], []
        self.before, self.peak = before or status("VmRSS"), None
        self.validating = self.validating_cpu = 0.0
        self.begin, self.begin_cpu = time.perf_counter(), time.process_time()
        self.restart()

    def restart(self):
        self.started, self.clock = time.perf_counter(), time.process_time()

    def step(self):
        self.wall_ms.append((time.perf_counter() - self.started) * 1e3)
        self.cpu_ms.append((time.process_time() - self.clock) * 1e3)
        self.restart()

    @contextlib.contextmanager
    def validation(self):
        """What is spent within is none of training, nor is the memory that it takes."""
        self.peak = self.peak or status("VmHWM")
        started, clock = time.perf_counter(), time.process_time()
        yield
        self.validating += time.perf_counter() - started
        self.validating_cpu += time.process_time() - clock
        self.restart()

    def seconds(self):
        return time.perf_counter() - self.begin - self.validating

    def cpu_seconds(self):
        return time.process_time() - self.begin_cpu - self.validating_cpu

    def epoch(self, loss, ndcg):
        self.epochs.append(
            {"seconds": self.seconds(), "cpu_seconds": self.cpu_seconds(), "loss": loss, "ndcg": ndcg}
        )

    def report(self, seconds=None, cpu_seconds=None, peak=None, quality=(None, None)):
        print(
            json.dumps(
                {
                    "wall_ms": self.wall_ms,
                    "cpu_ms": self.cpu_ms,
                    "epochs": self.epochs,
                    "seconds": seconds or self.seconds(),
                    "cpu_seconds": cpu_seconds or self.cpu_seconds(),
                    "before_kib": self.before,
                    "peak_kib": peak or self.peak or status("VmHWM"),
                    "hr": quality[0],
                    "ndcg": quality[1],
                }
            )
        )
