//! Limits are settings: each is felt where it was set, by the protocol's own refusal.

use std::process::Command;

use crate::support::{
    gateway::Gateway,
    mosquitto::Mosquitto,
    ports,
    process::{Owned, Stdout},
    programs::{self, curl},
    site::Site,
    wait,
};

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
