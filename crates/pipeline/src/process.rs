//! Running a stage so that nothing of it outlives the runner.
//!
//! Each stage runs in a process group of its own, started through this executable itself: the hidden
//! `__exec` asks the kernel to kill it when its parent dies and then becomes the stage. That covers
//! the stage; its own children are covered by one hidden `__watch` for each runner, which holds one
//! end of a pipe and kills every group it was told of when the other end closes, that is, when the
//! runner ends in any way at all. When a stage ends, what is left of its group is killed before
//! its outputs are looked at, so that no late write can reach a published file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use wait4::Wait4;

/// First argument that makes this executable become a stage.
pub const EXEC: &str = "__exec";
/// First argument that makes this executable watch over a runner.
pub const WATCH: &str = "__watch";

/// What a stage may see of the environment: results must not depend on the rest.
const ENVIRONMENT: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "DYLD_LIBRARY_PATH",
    "HOME",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
    "USER",
];

/// A command with the environment that stages see.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// How a stage ended and what it cost.
#[derive(Debug)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Whether it was stopped because it took too long.
    pub is_late: bool,
    /// Wall time.
    pub wall_ms: u64,
    /// User and system time of the stage and its children.
    pub cpu_ms: u64,
    /// Peak resident memory of the largest of its processes.
    pub peak_bytes: u64,
}

/// The process groups of a runner.
#[derive(Debug)]
pub struct Groups {
    own: PathBuf,
    alive: Mutex<BTreeSet<i32>>,
    /// The signal that ended this run; 0 as long as none did.
    interrupted: AtomicI32,
    watch: Mutex<Option<(Child, ChildStdin)>>,
}

impl Groups {
    /// No groups yet.
    ///
    /// # Errors
    /// If this process does not know its own executable.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            own: own_executable()?,
            alive: Mutex::default(),
            interrupted: AtomicI32::new(0),
            watch: Mutex::new(None),
        })
    }

    /// Kills every group and starts no more. `signal` is why.
    pub fn interrupt(&self, signal: i32) {
        self.interrupted.store(signal, Ordering::SeqCst);
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        for group in alive.iter().copied().filter_map(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// The signal that ended this run.
    pub fn interrupted(&self) -> Option<i32> {
        match self.interrupted.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Tells the watcher of a change; starts it first if there is none.
    fn tell(&self, sign: char, group: i32) -> io::Result<()> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_none() {
            let mut child = Command::new(&self.own)
                .arg(WATCH)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()?;
            let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            *watch = Some((child, pipe));
        }
        match watch.as_mut() {
            Some((_, pipe)) => writeln!(pipe, "{sign}{group}"),
            None => Ok(()),
        }
    }

    /// Runs a program to its end in a group of its own; what it prints goes to `log`. One that takes
    /// longer than `timeout` is killed with all its children.
    ///
    /// # Errors
    /// If it cannot be started or waited for.
    pub fn run(
        &self,
        program: &Path,
        arguments: &[String],
        log: &File,
        timeout: Option<Duration>,
    ) -> io::Result<Ended> {
        let started = Instant::now();
        let mut child = command(&self.own)
            .arg(EXEC)
            .arg(std::process::id().to_string())
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .process_group(0)
            .spawn()?;
        let group = i32::try_from(child.id()).map_err(io::Error::other)?;
        {
            let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
            alive.insert(group);
        }
        let ended = self.see_off(&mut child, group, started, timeout);
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.remove(&group);
        ended
    }

    fn see_off(
        &self,
        child: &mut Child,
        group: i32,
        started: Instant,
        timeout: Option<Duration>,
    ) -> io::Result<Ended> {
        let pid = Pid::from_raw(group).ok_or(io::ErrorKind::InvalidInput)?;
        let told = self.tell('+', group);
        if told.is_err() || self.interrupted().is_some() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let is_late = AtomicBool::new(false);
        let waited = match timeout {
            None => wait_for(pid),
            Some(timeout) => std::thread::scope(|scope| {
                let (ended, alarm) = channel::<()>();
                let is_late = &is_late;
                scope.spawn(move || {
                    if alarm.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                        is_late.store(true, Ordering::SeqCst);
                        // Not reaped before this thread has ended: the number is still its own.
                        let _ = kill_process_group(pid, Signal::KILL);
                    }
                });
                let waited = wait_for(pid);
                drop(ended);
                waited
            }),
        };
        let wall = started.elapsed();
        let _ = kill_process_group(pid, Signal::KILL);
        let forgotten = self.tell('-', group);
        let used = child.wait4()?;
        told.and(waited).and(forgotten)?;
        Ok(Ended {
            status: used.status,
            is_late: is_late.into_inner(),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            cpu_ms: u64::try_from((used.rusage.utime + used.rusage.stime).as_millis())
                .unwrap_or(u64::MAX),
            peak_bytes: used.rusage.maxrss,
        })
    }
}

/// Waits without reaping: as long as a stage is a zombie nobody else can get its number, so that the
/// group which is killed is certainly its own.
fn wait_for(pid: Pid) -> io::Result<()> {
    loop {
        match waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error)),
            Ok(_) => return Ok(()),
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((mut child, pipe)) = watch.take() {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

/// This executable; on Linux the very one that runs, even if another was built over it since.
fn own_executable() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        Ok(PathBuf::from("/proc/self/exe"))
    } else {
        std::env::current_exe()
    }
}

/// Becomes a stage that dies with its parent: the body of the hidden `__exec PARENT PROGRAM ARGUMENT...`.
/// Returns only if it fails.
pub fn become_stage(arguments: &[std::ffi::OsString]) -> io::Error {
    let [parent, program, rest @ ..] = arguments else {
        return io::ErrorKind::InvalidInput.into();
    };
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    {
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
            return error.into();
        }
        // The parent may have died before the kernel was asked.
        let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        if parent.to_str() != Some(now.to_string().as_str()) {
            return io::Error::other("the runner has ended");
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let _ = parent;
    Command::new(program).args(rest).exec()
}

/// Kills every group that is still announced when standard input closes: the body of the hidden `__watch`.
pub fn watch() {
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let Some((sign, group)) = line.split_at_checked(1) else {
            continue;
        };
        if let Ok(group) = group.parse::<i32>() {
            if sign == "+" {
                groups.insert(group);
            } else {
                groups.remove(&group);
            }
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// How a process ended, in words.
pub fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed (signal 9); was memory short?".to_owned(),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended for an unknown reason".to_owned(),
    }
}
