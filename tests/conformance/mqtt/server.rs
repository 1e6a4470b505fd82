//! The one gateway that all tests of this program speak to.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{gateway::Gateway, ports, programs, site::Site, wait};

/// The running gateway.
#[derive(Debug)]
pub(crate) struct Server {
    gateway: Gateway,
    /// MQTT over TCP.
    pub(crate) port: u16,
    /// MQTT over WebSocket.
    pub(crate) websocket: u16,
}

/// Who logs in with a password: name and password.
pub(crate) const ANN: (&str, &str) = ("ann", "a long and good password");

/// The path of the WebSocket.
pub(crate) const WEBSOCKET_PATH: &str = "/mqtt";

/// Nobody runs the destructors of statics: this ends the gateway, and clears its folder, when our end of its
/// standard input is gone.
const KEEPER: &str = r#"folder=$1; shift; "$@" & gateway=$!; cat >/dev/null; kill -9 $gateway; wait; rm -rf "$folder""#;

/// Returns the gateway; the first test starts it.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// Returns a name that nobody else in this program uses, for clients and topics.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    fn start() -> Self {
        let [port, websocket] = std::array::from_fn(|_| ports::free_port());
        let config = format!(
            r#"
[gateway]
id = "gw"
data-dir = "data"
[mqtt]
listen = ["127.0.0.1:{port}"]
anonymous = true
[mqtt.websocket]
listen = ["127.0.0.1:{websocket}"]
path = "{WEBSOCKET_PATH}"
anonymous = true
[[principal]]
name = "ann"
password = {{ file = "secrets/ann.hash" }}
scram = {{ file = "secrets/ann.scram" }}
[limits.mqtt]
max-takeovers-per-second = 1000
max-sessions-per-principal = 20000
[limits.auth]
failures = 1000
"#
        );
        let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
        let folder = gateway.folder().display().to_string();
        let secrets = format!("{folder}/secrets");
        let arguments =
            ["user", "add", ANN.0, "--scram", "--iterations", "4096", "--secrets", &secrets];
        programs::tidegate_with_input(&arguments, &format!("{}\n", ANN.1));
        gateway.wrap(&["/bin/sh", "-c", KEEPER, "keeper", &folder]);
        gateway.start_again();
        Self { gateway, port, websocket }
    }

    /// Returns the lines of the gateway's log that tell of a panic.
    pub(crate) fn panics(&self) -> Vec<String> {
        let lines = self.gateway.output().lines();
        lines.into_iter().filter(|line| line.contains("panicked")).collect()
    }

    /// Returns how much memory the gateway holds, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process()))
            .expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("the kernel says how much memory a process holds")
    }

    /// Returns the number of the gateway's process, the child of its keeper that is no `cat`.
    fn process(&self) -> u32 {
        let keeper = self.gateway.id().to_string();
        wait::until("the gateway's process", || {
            fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
                let is_ours = is_child(&entry.path(), &keeper);
                is_ours.then(|| entry.file_name().to_str()?.parse().ok())?
            })
        })
    }
}

/// Returns whether a folder of `/proc` is that of a gateway with this parent.
fn is_child(folder: &Path, parent: &str) -> bool {
    let Ok(stat) = fs::read_to_string(folder.join("stat")) else { return false };
    let mut words = stat.split_whitespace();
    words.nth(1) == Some("(tidegate)") && words.nth(1) == Some(parent)
}
