//! Clocks and memory of this process.

/// A reading of the clock that counts CPU time of all threads of this process.
#[derive(Clone, Copy)]
pub(crate) struct Clock(f64);

impl Clock {
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self(now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 * 1e-6)
    }

    /// CPU milliseconds since.
    pub(crate) fn elapsed(self) -> f64 {
        Self::now().0 - self.0
    }
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Resident memory, if the system tells.
pub(crate) fn resident_kib() -> Option<u64> {
    status("VmRSS:")
}

/// The most that was ever resident (what `ru_maxrss` says), if the system tells.
pub(crate) fn peak_kib() -> Option<u64> {
    status("VmHWM:")
}
