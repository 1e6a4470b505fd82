//! The Python peers of `tests/support/peers`, spoken to in JSON lines.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Output, Owned, Stdout};
use super::{programs, wait};

/// Answers that may wait unread; a peer answers only what it was asked.
const LINES_MAX: usize = 1_024;

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    script: String,
    process: Owned,
    stdin: ChildStdin,
    lines: Receiver<String>,
    ready: Value,
    requests: u64,
}

impl Peer {
    /// Starts a script and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/peers");
        let mut command = Command::new(programs::python());
        command.arg(folder.join(script)).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut process = Owned::start(script, &mut command, Stdout::Taken);
        let (stdin, stdout) = process.take_pipes();
        let (sender, lines) = sync_channel(LINES_MAX);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let script = script.to_owned();
        let mut peer = Self { script, process, stdin, lines, ready: Value::Null, requests: 0 };
        peer.ready = peer.next_line(Instant::now() + wait::DEADLINE);
        assert_eq!(
            peer.ready["ready"], true,
            "the first line of {} was {}",
            peer.script, peer.ready
        );
        peer
    }

    /// Returns what the peer said of itself when it was ready, such as its port.
    pub(crate) fn facts(&self) -> &Value {
        &self.ready
    }

    /// Asks for `what` with the members of `arguments` and returns the answer.
    ///
    /// # Panics
    ///
    /// If the peer answers with an error, or not within [`wait::DEADLINE`].
    #[track_caller]
    pub(crate) fn ask(&mut self, what: &str, arguments: Value) -> Value {
        match self.try_ask(what, arguments) {
            Ok(answer) => answer,
            Err(error) => panic!("{} could not `{what}`: {error}", self.script),
        }
    }

    /// As [`ask`](Self::ask), but an error of the peer is the caller's to judge.
    #[track_caller]
    pub(crate) fn try_ask(&mut self, what: &str, arguments: Value) -> Result<Value, String> {
        self.requests += 1;
        let number = self.requests;
        let mut request = arguments;
        request["id"] = json!(number);
        request["do"] = json!(what);
        if let Err(error) = writeln!(self.stdin, "{request}") {
            panic!("{} takes no requests any more: {error}\n{}", self.script, self.output());
        }
        let deadline = Instant::now() + wait::DEADLINE;
        loop {
            let mut answer = self.next_line(deadline);
            if answer["id"] != number {
                continue; // late, to a request that was given up
            }
            return match answer.get_mut("error") {
                Some(error) => Err(error.as_str().unwrap_or("no reason given").to_owned()),
                None => Ok(answer["ok"].take()),
            };
        }
    }

    /// Stops the peer where it stands: it reads nothing more.
    pub(crate) fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets a paused peer go on.
    pub(crate) fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Ends the peer at once, as if its machine had lost power.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Returns the last lines that the peer wrote for people.
    pub(crate) fn output(&self) -> &Output {
        self.process.output()
    }

    #[track_caller]
    fn next_line(&self, deadline: Instant) -> Value {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let line = match self.lines.recv_timeout(left) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} did not answer:\n{}", self.script, self.output())
            }
            Err(RecvTimeoutError::Disconnected) => {
                panic!("{} has ended:\n{}", self.script, self.output())
            }
        };
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{} wrote {line:?}: {error}", self.script))
    }
}
