//! What is open before anybody has a credential (docs/promises.md B5, C1 and C2).

use std::net::TcpStream;

use serde_json::Value;

use crate::support::{
    authority::{self, Authority},
    gateway::Gateway,
    ports,
    programs::{self, Said},
    site::Site,
    wait,
};

/// A gateway that is to serve the plant's network, and its ports.
struct Plant {
    gateway: Gateway,
    plain: u16,
    mqtts: u16,
    http: u16,
}

const PRINCIPAL: &str = "
[[principal]]
name = \"press-7\"
password = { file = \"secrets/press-7.hash\" }
[[access]]
principal = \"press-*\"
publish = [\"hall1/#\"]
";

impl Plant {
    /// Starts it without any principal.
    fn start() -> Self {
        let [plain, mqtts, http] = std::array::from_fn(|_| ports::free_port());
        let plant = Self { gateway: Gateway::prepare(&Site::new("", &[])), plain, mqtts, http };
        let authority = Authority::new("plant");
        let folder = plant.gateway.folder();
        authority::write(folder, "ca.pem", &authority.pem());
        authority.issue("gateway", 1).write(folder, "server");
        let secrets = folder.join("secrets").display().to_string();
        programs::tidegate_with_input(
            &["user", "add", "press-7", "--secrets", &secrets],
            "secret\n",
        );
        plant.configure("");
        let mut plant = plant;
        plant.gateway.start_again();
        plant
    }

    /// Writes the configuration with these principals.
    fn configure(&self, principals: &str) {
        let Self { gateway, plain, mqtts, http } = self;
        gateway.write(
            "tidegate.toml",
            &format!(
                r#"
[gateway]
id = "plant"
data-dir = "data"
[mqtt]
listen = ["127.0.0.1:{plain}"]
[mqtt.tls]
listen = ["0.0.0.0:{mqtts}"]
cert = "server.pem"
key = {{ file = "server.key" }}
[http]
listen = ["0.0.0.0:{http}"]
allow-plain = true
{principals}"#
            ),
        );
    }

    /// Returns which of the ports can be connected to.
    fn open(&self) -> [bool; 3] {
        [self.plain, self.mqtts, self.http]
            .map(|port| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Returns what status says of the listeners: scheme, and whether each is open.
    fn listeners(&self) -> Vec<(String, bool)> {
        let status = self.gateway.status(&[]);
        let all = status["listeners"].as_array().expect("a list of listeners");
        let tell = |listener: &Value| {
            let scheme = listener["protocol"].as_str().expect("a scheme").to_owned();
            (scheme, listener["open"] == Value::Bool(true))
        };
        all.iter().map(tell).collect()
    }

    fn publish(&self) -> Said {
        let ca = self.gateway.folder().join("ca.pem").display().to_string();
        let port = self.mqtts.to_string();
        let words = ["-h", "127.0.0.1", "-p", &port, "--cafile", &ca, "-u", "press-7", "-P"];
        let message = ["secret", "-q", "1", "-t", "hall1/x", "-m", "1"];
        programs::run(programs::find("mosquitto_pub"), &[&words[..], &message].concat())
    }
}

/// identity.5: an address beyond loopback is bound when the first principal could log in there, without a restart,
/// and given up when the last one has gone.
#[test]
fn identity_05_nothing_opens_beyond_loopback_before_somebody_can_log_in() {
    let plant = Plant::start();
    assert_eq!(plant.open(), [true, false, false]);
    let told = |open| {
        ["mqtt", "mqtts", "http"].map(|scheme| (scheme.to_owned(), scheme == "mqtt" || open))
    };
    assert_eq!(plant.listeners(), told(false));
    let said = plant.gateway.tidegate("status", &[]).stdout;
    assert!(said.contains(&format!("mqtts://0.0.0.0:{}: NOT OPEN YET", plant.mqtts)), "{said}");

    plant.configure(PRINCIPAL);
    wait::until("the listeners to open", || (plant.open() == [true; 3]).then_some(()));
    let said = plant.publish();
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(plant.listeners(), told(true));
    let said = plant.gateway.tidegate("status", &[]).stdout;
    assert!(said.contains(&format!("http://0.0.0.0:{}: NOT ENCRYPTED", plant.http)), "{said}");

    plant.configure("");
    wait::until("the listeners to close", || (plant.open() == [true, false, false]).then_some(()));
}

/// identity.5, identity.9: the configuration that the package installs lets nobody in, and listens on loopback only.
#[test]
fn identity_05_the_packages_configuration_is_safe_as_it_is() {
    let port = ports::free_port();
    let config = include_str!("../../systemd/tidegate.toml");
    let mut ours = config.replace("127.0.0.1:1883", &format!("127.0.0.1:{port}"));
    ours = ours.replace("/var/lib/tidegate", "data");
    assert!(ours.contains(&port.to_string()) && !ours.contains("/var/lib"), "{ours}");
    let gateway = Gateway::start(&Site::new(&ours, &[]));
    let port = port.to_string();
    for more in [&[][..], &["-u", "admin", "-P", "admin"], &["-u", "tidegate", "-P", ""]] {
        let words = ["-h", "127.0.0.1", "-p", &port, "-t", "x", "-m", "1"];
        let said = programs::run(programs::find("mosquitto_pub"), &[&words[..], more].concat());
        // 5, not authorized, without a name; 4, bad user name or password, with one (MQTT 3.1.1, 3.2.2.3).
        let code = if more.is_empty() { 5 } else { 4 };
        assert_eq!(said.code, Some(code), "{more:?}: {}", said.stderr);
    }
    let status = gateway.status(&[]);
    let listeners = status["listeners"].as_array().expect("a list");
    assert_eq!(listeners.len(), 1, "{status}");
    assert_eq!(listeners[0]["address"], format!("127.0.0.1:{port}"));
    assert_eq!(listeners[0]["anonymous"], Value::Bool(false));
}

/// identity.7: a crash leaves no core dump, whatever the system makes of one: neither a file nor one for a program.
#[test]
fn identity_07_a_running_gateway_has_no_core_dump() {
    let port = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n"
    );
    let mut gateway = Gateway::start_traced(&Site::new(&config, &[]), "prctl");
    let process = format!("/proc/{}", gateway.id());
    let limits =
        std::fs::read_to_string(format!("{process}/limits")).expect("the process is there");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
    let trace = std::fs::read_to_string(gateway.trace()).expect("the trace is there");
    let marked =
        |line: &str| line.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE") && line.ends_with("= 0");
    assert!(trace.lines().any(marked), "{trace}");
    gateway.crash();
    let left = std::fs::read_dir(gateway.folder()).expect("the folder is there");
    let names = left.map(|entry| entry.expect("an entry").file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("core")));
}
