//! RabbitMQ as a process of its own, in a folder of its own, on ports of its own.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Owned, Stdout};
use super::{ports, programs, wait};

/// Who may log in, from this machine.
pub(crate) const LOGIN: (&str, &str) = ("edge", "s3cret");

/// It takes a quarter of a minute where nothing else runs.
const START: Duration = Duration::from_secs(180);
const LIBRARY: &str = "/usr/lib/rabbitmq/lib";

/// A broker on 127.0.0.1 that keeps ports, configuration and stored messages while it is stopped.
#[derive(Debug)]
pub(crate) struct RabbitMq {
    // Before the folder, for the processes go first.
    process: Option<Running>,
    /// Tells the broker its own name; it would start one that stays.
    _epmd: Owned,
    port: u16,
    names: u16,
    folder: TempDir,
}

/// A broker that runs: it ends with its standard input, so with the test in any case.
#[derive(Debug)]
struct Running {
    process: Owned,
    shell: ChildStdin,
    _prompts: ChildStdout,
}

impl RabbitMq {
    /// Starts a broker with further lines of configuration, in which `{folder}` is its folder.
    ///
    /// `files` are put there beforehand.
    #[track_caller]
    pub(crate) fn start(more: &str, plugins: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (port, names) = (ports::free_port(), ports::free_port());
        let at = folder.path().display().to_string();
        let (name, password) = LOGIN;
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\n\
             default_user = {name}\n\
             default_pass = {password}\n\
             disk_free_limit.absolute = 1MB\n\
             log.console = false\n\
             log.file = broker.log\n{}",
            more.replace("{folder}", &at)
        );
        let files = [("rabbitmq.conf", config.as_str()), ("plugins", plugins)]
            .into_iter()
            .chain(files.iter().copied());
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a temporary folder takes files");
        }
        let mut epmd = Command::new(programs::find("epmd"));
        epmd.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        let epmd = Owned::start("epmd", &mut epmd, Stdout::Remembered);
        let mut broker = Self { process: None, _epmd: epmd, port, names, folder };
        broker.start_again();
        broker
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends the broker as a power cut would.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut running) = self.process.take() {
            running.process.kill9();
        }
    }

    /// Starts the broker again, on the same ports with the same messages.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "the broker is still running");
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(server());
        command
            .env("HOME", self.folder.path())
            .env("RABBITMQ_NODENAME", "tests@localhost")
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_MNESIA_BASE", at("data"))
            .env("RABBITMQ_LOG_BASE", self.folder.path())
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_DIST_PORT", ports::free_port().to_string())
            .env("ERL_EPMD_PORT", self.names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // One thread for the work, which waits without turning.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
            .env("RABBITMQ_ALLOW_INPUT", "1");
        let mut process = Owned::start("rabbitmq", &mut command, Stdout::Taken);
        let (shell, prompts) = process.take_pipes();
        let listens = wait::within(START, || {
            if let Some(status) = process.ended() {
                panic!("rabbitmq ended with {status}:\n{}{}", process.output(), self.log());
            }
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        assert!(listens.is_some(), "rabbitmq does not listen:\n{}", self.log());
        self.process = Some(Running { process, shell, _prompts: prompts });
    }

    /// Lets the broker find its disk full, or not full any more.
    #[track_caller]
    pub(crate) fn set_disk_full(&mut self, is_full: bool) {
        let what = if is_full { "set_alarm" } else { "clear_alarm" };
        let which = "{resource_limit, disk, node()}";
        let alarm = if is_full { format!("{{{which}, []}}") } else { which.to_owned() };
        self.tell(&format!("rabbit_alarm:{what}({alarm})."));
    }

    /// Adds somebody who may write to an exchange, and nothing else.
    #[track_caller]
    pub(crate) fn add_writer(&mut self, (name, password): (&str, &str), exchange: &str) {
        self.tell(&format!(
            "rabbit_auth_backend_internal:add_user(<<\"{name}\">>, <<\"{password}\">>, <<\"tests\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"{name}\">>, <<\"/\">>, <<\"^$\">>, \
             <<\"^{exchange}$\">>, <<\"^$\">>, <<\"tests\">>)."
        ));
    }

    fn tell(&mut self, words: &str) {
        let running = self.process.as_mut().expect("the broker runs");
        writeln!(running.shell, "{words}").expect("its shell listens");
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("── last words of rabbitmq ──\n{}", self.log());
        }
    }
}

/// Returns the server's own script; the one on the path changes the user first.
fn server() -> PathBuf {
    let versions = fs::read_dir(LIBRARY).unwrap_or_else(|error| {
        panic!("no RabbitMQ in {LIBRARY} ({error}): run `cargo xtask setup`")
    });
    let scripts = versions.flatten().map(|version| version.path().join("sbin/rabbitmq-server"));
    scripts.filter(|script| script.exists()).max().expect("RabbitMQ has a server")
}
