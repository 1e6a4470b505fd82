//! A process of ours, ended with its owner, and the processor time that it or a thread has used.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process;

/// The unit of processor time in `/proc`: fixed for user space, whatever the kernel's own tick.
const TICK: Duration = Duration::from_millis(10);

/// A running process.
#[derive(Debug)]
pub(super) struct Child(std::process::Child);

impl Child {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().with_context(|| format!("cannot start {program}"))?))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns the pipes that the command was given.
    pub(super) fn pipes(
        &mut self,
    ) -> Option<(std::process::ChildStdin, std::process::ChildStdout)> {
        Some((self.0.stdin.take()?, self.0.stdout.take()?))
    }

    /// Returns the processor time of all its threads, in user space and in the kernel.
    pub(super) fn cpu(&self) -> Result<Duration> {
        cpu_of(&format!("/proc/{}/stat", self.id()))
    }

    /// Returns the resident memory in bytes.
    pub(super) fn rss_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// Returns the most memory that has been resident, in bytes.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Returns what the system has written to storage for it, in bytes (proc(5)).
    pub(super) fn written_bytes(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.id()))?;
        let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        bytes.and_then(|bytes| bytes.parse().ok()).context("the kernel tells no written bytes")
    }

    fn memory(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes: u64 = line
            .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
            .context("the kernel tells no resident memory")?;
        Ok(kibibytes * 1024)
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Errors
    ///
    /// Fails if it takes longer than `patience`.
    pub(super) fn end(&mut self, patience: Duration) -> Result<()> {
        process::run(process::command("kill").arg(self.id().to_string()))?;
        let deadline = Instant::now() + patience;
        while self.0.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "process {} does not end", self.id());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it at once and waits until it is gone.
    pub(super) fn kill(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the processor time of the calling thread.
pub(super) fn cpu_of_this_thread() -> Result<Duration> {
    cpu_of("/proc/thread-self/stat")
}

fn cpu_of(path: &str) -> Result<Duration> {
    let stat = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} is not as proc(5) says"))?;
    Ok(TICK * u32::try_from(ticks).context("the process is too old")?)
}

/// Returns utime + stime of a line of `/proc/PID/stat`: the 12th and 13th field after the name in brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 2053 0 0 0 31 11 0 0 20 0 5 0 8123 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (cut) S 1 7"), None);
    }
}
