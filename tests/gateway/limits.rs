//! Limits are settings: each is felt where it was set, by the protocol's own refusal.

mod clients;
mod connections;
mod packets;
mod page;

use std::{process::Command, time::Duration};

use crate::support::{
    gateway::Gateway,
    mosquitto::Mosquitto,
    ports,
    process::{Owned, Stdout},
    programs::{self, curl},
    site::Site,
    wait,
};

/// How long nothing has to come before nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);

/// A gateway with some limits, and its listeners.
struct Bench {
    gateway: Gateway,
    mqtt: u16,
    http: u16,
}

impl Bench {
    #[track_caller]
    fn start(limits: &str) -> Self {
        let [mqtt, http] = std::array::from_fn(|_| ports::free_port());
        let config = format!(
            "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n\
             [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n{limits}"
        );
        Self { gateway: Gateway::start(&Site::new(&config, &[])), mqtt, http }
    }

    /// Returns a counter or gauge of the broker.
    #[track_caller]
    fn count(&self, name: &str) -> u64 {
        let status = self.gateway.status(&[]);
        let value = name.split('/').fold(&status["broker"], |value, name| &value[name]);
        value.as_u64().unwrap_or_else(|| panic!("{name} is counted: {status}"))
    }

    /// Returns how often a limit has refused somebody.
    #[track_caller]
    fn refusals(&self, limit: &str) -> u64 {
        self.count(&format!("limit-refusals/{limit}"))
    }

    /// Returns the same once it is more than `before`: a connection is counted when it has ended.
    #[track_caller]
    fn refusals_after(&self, limit: &str, before: u64) -> u64 {
        wait::until("a refusal", || Some(self.refusals(limit)).filter(|count| *count > before))
    }

    #[track_caller]
    fn metrics(&self) -> String {
        let (status, text) = curl(&[&format!("http://127.0.0.1:{}/metrics", self.http)]);
        assert_eq!(status, 200);
        text
    }
}

const MAPPING: &str = "[[http]]\npath = \"/in\"\ntopic = \"hall1/in\"\npayload = \"json\"\n";

/// identity.8: the limits of `[limits.http]`, `[limits.json]` and `[limits.downlink]` are those in force.
#[test]
fn identity_8_limits_are_settings() {
    let cloud = Mosquitto::start();
    let [mqtt, http] = std::array::from_fn(|_| ports::free_port());
    let config = format!(
        r#"
[gateway]
id = "gw"
data-dir = "data"
mappings = ["mappings/*.toml"]
[mqtt]
listen = ["127.0.0.1:{mqtt}"]
anonymous = true
[http]
listen = ["127.0.0.1:{http}"]
anonymous = true
[[uplink]]
name = "cloud"
url = "mqtt://127.0.0.1:{}"
topics = ["hall1/#"]
topic = "tidegate/{{gateway}}/{{encoding}}"
commands = "tidegate/{{gateway}}/cmd/#"
[limits.http]
max-header-count = 6
max-body-bytes = "1KiB"
[limits.json]
max-depth = 3
[limits.downlink]
max-wire = "1KiB"
max-depth = 2
"#,
        cloud.port()
    );
    let gateway = Gateway::start(&Site::new(&config, &[("in.toml", MAPPING)]));

    let url = format!("http://127.0.0.1:{http}/in");
    let post = |body: &str, more: &[&str]| {
        let json = ["-H", "Content-Type: application/json", "-d", body];
        curl(&[&json[..], more, &[&url]].concat()).0
    };
    // curl sends Host, User-Agent, Accept, Content-Type and Content-Length by itself.
    assert_eq!(post("1", &["-H", "X-A: 1"]), 201);
    assert_eq!(post("1", &["-H", "X-A: 1", "-H", "X-B: 1"]), 431);
    assert_eq!(post("[[[1]]]", &[]), 201);
    assert_eq!(post("[[[[1]]]]", &[]), 400);
    assert_eq!(post(&format!("\"{}\"", "x".repeat(1_022)), &[]), 201);
    assert_eq!(post(&format!("\"{}\"", "x".repeat(1_023)), &[]), 413);

    let port = cloud.port().to_string();
    wait::until("the uplink to be connected", || {
        (gateway.status(&[])["uplinks"]["cloud"]["connected"] == true).then_some(())
    });
    let mut command = Command::new(programs::find("mosquitto_sub"));
    command.args(["-p", &port, "-q", "1", "-t", "tidegate/gw/result/#"]);
    let results = Owned::start("mosquitto_sub", &mut command, Stdout::Remembered);
    let long = format!(r#"{{"value":"{}","id":"c-3"}}"#, "x".repeat(1_024));
    let commands = [r#"{"value":[1],"id":"c-1"}"#, r#"{"value":[[1]],"id":"c-2"}"#, &long];
    wait::until("the outcomes", || {
        // Until the subscription is there, an outcome goes unseen; ids make a repeat harmless.
        for payload in commands {
            let words = ["-p", &port, "-q", "1", "-t", "tidegate/gw/cmd/hall1/x", "-m", payload];
            assert_eq!(programs::run(programs::find("mosquitto_pub"), &words).code, Some(0));
        }
        let said = results.output().to_string();
        let told = |words: &str| said.contains(words);
        (told("nobody") && told("more than 2 levels") && told("at most 1024 are allowed"))
            .then_some(())
    });
}
