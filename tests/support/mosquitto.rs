//! Mosquitto on a port of its own, as the cloud's broker or as a device's.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Owned, Stdout};
use super::{ports, programs, wait};

/// A broker on 127.0.0.1 that keeps port, configuration and stored state while it is stopped.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    // Before the folder, for the process goes first.
    process: Option<Owned>,
    port: u16,
    folder: TempDir,
}

/// What a broker keeps and whom it lets in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options<'a> {
    /// Sessions and messages survive an orderly [`Mosquitto::stop`].
    pub(crate) persistent: bool,
    /// The one user name and password; without, everyone is let in.
    pub(crate) login: Option<(&'a str, &'a str)>,
    /// Further lines of configuration.
    pub(crate) more: &'a str,
}

impl Mosquitto {
    /// Starts a broker that keeps its state over a stop.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_with(Options { persistent: true, ..Options::default() })
    }

    /// Starts a broker with the given options.
    #[track_caller]
    pub(crate) fn start_with(options: Options<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = ports::free_port();
        let at = folder.path().display();
        let mut config = format!(
            "listener {port} 127.0.0.1\n\
             user root\n\
             max_queued_messages 0\n\
             set_tcp_nodelay true\n\
             persistence {}\n\
             persistence_location {at}/\n",
            options.persistent
        );
        match options.login {
            Some((name, password)) => {
                let file = write_passwords(&folder, name, password);
                config += &format!("allow_anonymous false\npassword_file {file}\n");
            }
            None => config += "allow_anonymous true\n",
        }
        config += options.more;
        fs::write(folder.path().join("mosquitto.conf"), config)
            .expect("a temporary folder takes files");
        let mut broker = Self { port, folder, process: None };
        broker.start_again();
        broker
    }

    /// Gives the one who may log in another password, from the next start on.
    #[track_caller]
    pub(crate) fn set_password(&self, name: &str, password: &str) {
        write_passwords(&self.folder, name, password);
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Stops the broker in order; a persistent one saves its state.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate();
        }
    }

    /// Starts the broker again after a stop, on the same port with the same state.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "the broker is still running");
        let mut command = Command::new(programs::find("mosquitto"));
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        let mut process = Owned::start("mosquitto", &mut command, Stdout::Remembered);
        wait::until("mosquitto to listen", || {
            if let Some(status) = process.ended() {
                panic!("mosquitto ended with {status}:\n{}", process.output());
            }
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        self.process = Some(process);
    }
}

/// Writes the file of the one who may log in, and returns its path.
#[track_caller]
fn write_passwords(folder: &TempDir, name: &str, password: &str) -> String {
    let file = folder.path().join("passwords").display().to_string();
    let tool = programs::find("mosquitto_passwd");
    let said = programs::run(tool, &["-b", "-c", &file, name, password]);
    assert_eq!(said.code, Some(0), "mosquitto_passwd: {}", said.stderr);
    file
}
