//! The real binary in a folder of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::process::{Output, Owned, Stdout};
use super::programs::{self, Said};
use super::site::Site;
use super::wait;

/// How often a gateway that waits for notices looks whether the process still lives.
const NOTICE_POLL: Duration = Duration::from_millis(20);

/// Longest notice of the service manager's protocol that is read.
const NOTICE_BYTES_MAX: usize = 4_096;

/// A gateway with its configuration and data, which survive every stop and kill.
#[derive(Debug)]
pub(crate) struct Gateway {
    // Before the folder, for the process goes first.
    process: Option<Owned>,
    folder: TempDir,
    /// Put before the program, such as strace and its options.
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where the gateway tells the service manager how it is.
    notices: UnixDatagram,
    ready_after: Duration,
}

impl Gateway {
    /// Writes the files of `site`, starts the gateway there and waits until it says `READY=1`.
    #[track_caller]
    pub(crate) fn start(site: &Site) -> Self {
        let mut gateway = Self::prepare(site);
        gateway.start_again();
        gateway
    }

    /// As [`start`](Self::start), with every process of the gateway traced into the file [`trace`](Self::trace).
    ///
    /// `calls` names the system calls as strace's `-e trace=` takes them.
    #[track_caller]
    pub(crate) fn start_traced(site: &Site, calls: &str) -> Self {
        let mut gateway = Self::prepare(site);
        let strace = programs::find("strace").display().to_string();
        let file = gateway.trace().display().to_string();
        // -D leaves the gateway our own child, so that signals and its end reach it and us as ever.
        let words = [
            &strace,
            "-D",
            "-f",
            "-y",
            "-xx",
            "-s",
            "4096",
            "-e",
            &format!("trace={calls}"),
            "-o",
            &file,
        ];
        gateway.wrapper = words.map(str::to_owned).to_vec();
        gateway.start_again();
        gateway
    }

    /// Writes the files of `site` and starts nothing yet.
    #[track_caller]
    pub(crate) fn prepare(site: &Site) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let gateway = Self {
            notices: UnixDatagram::bind(folder.path().join("notify"))
                .expect("a socket can be bound"),
            folder,
            wrapper: Vec::new(),
            environment: Vec::new(),
            process: None,
            ready_after: Duration::ZERO,
        };
        gateway.notices.set_read_timeout(Some(NOTICE_POLL)).expect("a socket takes a timeout");
        for (path, text) in site.files() {
            gateway.write(path, text);
        }
        gateway
    }

    /// Puts `words` before the program at the next start; what they name as the process is then theirs.
    pub(crate) fn wrap(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|&word| word.to_owned()).collect();
    }

    /// Starts the gateway after a stop or kill, on the same data, and waits until it is ready.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        let start = Instant::now();
        self.spawn();
        self.wait_for_notice("READY=1");
        self.ready_after = start.elapsed();
    }

    /// Sets an environment variable for the next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the gateway without waiting for anything; for tests of a start that fails.
    #[track_caller]
    pub(crate) fn spawn(&mut self) {
        assert!(self.process.is_none(), "the gateway is still running");
        raise_descriptors();
        let program = env!("CARGO_BIN_EXE_tidegate").to_owned();
        let words: Vec<&String> = self.wrapper.iter().chain([&program]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("run").arg("-c").arg(self.config());
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Owned::start("tidegate", &mut command, Stdout::Remembered));
    }

    /// Returns how long the last start took until the gateway was ready.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Waits for a notice to the service manager that contains the line `line`.
    #[track_caller]
    pub(crate) fn wait_for_notice(&mut self, line: &str) {
        let process = self.process.as_mut().expect("the gateway runs");
        let notices = &self.notices;
        let deadline = Instant::now() + wait::DEADLINE;
        let mut buffer = [0; NOTICE_BYTES_MAX];
        while Instant::now() < deadline {
            if let Ok(length) = notices.recv(&mut buffer) {
                let notice = String::from_utf8_lossy(&buffer[..length]);
                if notice.lines().any(|found| found == line) {
                    return;
                }
            } else if let Some(status) = process.ended() {
                panic!("the gateway ended with {status} before {line}:\n{}", process.output());
            }
        }
        panic!("the gateway did not say {line}:\n{}", process.output());
    }

    /// Kills the gateway where it stands.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
        self.forget_notices();
    }

    /// Ends the gateway as a fault of its own would: with a signal that asks for a core dump.
    #[track_caller]
    pub(crate) fn crash(&mut self) {
        self.process.as_mut().expect("the gateway runs").signal(Signal::ABORT);
        self.wait_for_end();
    }

    /// Stops the gateway in order and returns how it ended.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let status = self.process.take().expect("the gateway runs").terminate();
        self.forget_notices();
        status
    }

    /// Asks the gateway to stop and returns at once; [`wait_for_end`](Self::wait_for_end) follows.
    #[track_caller]
    pub(crate) fn ask_to_stop(&mut self) {
        self.process.as_mut().expect("the gateway runs").signal(Signal::TERM);
    }

    /// Waits for the gateway to end by itself and returns its exit code and last words.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> (Option<i32>, Output) {
        let mut process = self.process.take().expect("the gateway runs");
        let status = wait::until("the gateway to end", || process.ended());
        self.forget_notices();
        (status.code(), process.output().clone())
    }

    /// Returns the process number of the running gateway.
    #[track_caller]
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("the gateway runs").id()
    }

    /// Returns the last lines of the gateway's log.
    #[track_caller]
    pub(crate) fn output(&self) -> &Output {
        self.process.as_ref().expect("the gateway runs").output()
    }

    /// Returns what `tidegate status --json` says of the running gateway, with `more` arguments such as `--audit`.
    #[track_caller]
    pub(crate) fn status(&self, more: &[&str]) -> Value {
        let said = self.tidegate("status", &[&["--json"], more].concat());
        assert_eq!(said.code, Some(0), "status: {}{}", said.stdout, said.stderr);
        serde_json::from_str(&said.stdout)
            .unwrap_or_else(|error| panic!("status printed {:?}: {error}", said.stdout))
    }

    /// Runs another command of the program on this gateway's configuration: `tidegate COMMAND -c … MORE`.
    #[track_caller]
    pub(crate) fn tidegate(&self, command: &str, more: &[&str]) -> Said {
        let config = self.config();
        let config = config.to_str().expect("temporary folders have plain names");
        programs::tidegate(&[&[command, "-c", config], more].concat())
    }

    /// Writes a file of the site, such as a changed mapping, in one step.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.folder.path().join(path);
        let parent = file.parent().expect("a file stands in a folder");
        fs::create_dir_all(parent).expect("a temporary folder takes folders");
        let aside = file.with_extension("new");
        fs::write(&aside, text).expect("a temporary folder takes files");
        fs::rename(&aside, &file).expect("a temporary folder takes files");
    }

    /// Returns the folder of the configuration; relative paths in it start there.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the file that a traced gateway's system calls are in.
    pub(crate) fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    /// Empties the socket, so that a notice of an earlier life is not taken for the next one's.
    fn forget_notices(&self) {
        self.notices.set_nonblocking(true).expect("a socket can be polled");
        let mut buffer = [0; NOTICE_BYTES_MAX];
        while self.notices.recv(&mut buffer).is_ok() {}
        self.notices.set_nonblocking(false).expect("a socket can wait");
    }
}

/// Lets this process, and with it those that it starts, have as many descriptors as the system allows.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit can be raised to the hard one");
}
