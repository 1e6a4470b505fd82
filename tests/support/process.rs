//! A child process that ends with its owner and remembers its last words.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// Lines of output that are kept; a process that writes more has a fault of its own.
const LINES_MAX: usize = 50_000;
/// The last of them that explain a failure.
const LINES_SHOWN: usize = 400;

/// A process of ours: killed by its number when dropped, and nobody else's.
#[derive(Debug)]
pub(crate) struct Owned {
    name: String,
    child: Child,
    output: Output,
}

/// The last lines that a process wrote, on standard error and, unless it is taken, standard output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output(Arc<Mutex<VecDeque<(Instant, String)>>>);

/// What becomes of the standard output of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Joins standard error in the memory of last lines.
    Remembered,
    /// Is read by the test through [`Owned::take_pipes`].
    Taken,
}

impl Owned {
    /// Starts `command`; `name` stands in failure messages.
    #[track_caller]
    pub(crate) fn start(name: &str, command: &mut Command, stdout: Stdout) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = Output::default();
        output.follow(child.stderr.take().expect("standard error is piped"));
        if stdout == Stdout::Remembered {
            output.follow(child.stdout.take().expect("standard output is piped"));
        }
        Self { name: name.to_owned(), child, output }
    }

    /// Returns the process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns standard input and output of a process that was started with [`Stdout::Taken`]; once.
    pub(crate) fn take_pipes(&mut self) -> (ChildStdin, ChildStdout) {
        let stdin = self.child.stdin.take().expect("standard input is taken once");
        let stdout = self.child.stdout.take().expect("standard output is taken once");
        (stdin, stdout)
    }

    /// Returns how the process ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Kills the process as a power cut or the kernel would, and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let name = self.name.clone();
        wait::within(wait::DEADLINE, || self.ended())
            .unwrap_or_else(|| panic!("{name} did not stop:\n{}", self.output))
    }

    /// Sends a signal to a process that is still running.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // Until it has been waited for its number belongs to nobody else.
        if self.ended().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            kill_process(pid.expect("a child has a number"), signal)
                .expect("a child takes signals");
        }
    }

    /// Returns the last lines of output.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("── last words of {} ──\n{}", self.name, self.output);
        }
        self.kill9();
    }
}

impl Output {
    /// Returns the lines kept, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.timed_lines().into_iter().map(|(_, line)| line).collect()
    }

    /// Returns the lines kept and when each came, oldest first.
    pub(crate) fn timed_lines(&self) -> Vec<(Instant, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn follow(&self, stream: impl Read + Send + 'static) {
        let output = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let mut lines = output.0.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back((Instant::now(), String::from_utf8_lossy(&line).into_owned()));
            }
        });
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.lines();
        formatter.write_str(&lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"))
    }
}
