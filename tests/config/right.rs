//! Configurations that are right, and what they come to.

use std::time::Duration;

use tidegate::config::{
    Compression, Config, Durability, JwtKeys, Limits, LinkHost, MqttVersion, OpcUaLogin,
    OpcUaSecurity, PayloadFormat, StoreConfig, TimeConfig, UplinkConfig, WhenFull,
};
use tidegate_rules::{Action, Deadband};
use tidegate_settings::ByteSize;
use tidegate_sparkplug::{DeviceRule, StateVersion};

use crate::harness::{Folder, PRESS_HALL, PRESS_HALL_MAPPING, PRESS_HALL_MAPPING_YAML};

fn load(files: &[(&str, &str)]) -> Config {
    let folder = Folder::with(files);
    let loaded = folder.load(files[0].0);
    assert!(loaded.config.is_some(), "{:#?}", folder.lines(&loaded));
    loaded.config.unwrap()
}

#[test]
fn the_example_is_right_as_written() {
    let folder = Folder::with(&[
        ("tidegate.toml", PRESS_HALL),
        ("mappings/press-hall.toml", PRESS_HALL_MAPPING),
    ]);
    let loaded = folder.load("tidegate.toml");
    assert_eq!(
        folder.lines(&loaded),
        [
            r#"tidegate.toml:7:32 `"mappings/*.yaml"` hint: no file matches `mappings/*.yaml` | remove it, or put a mapping file there"#
        ]
    );
    assert_eq!(loaded.mapping_files.len(), 1);
    let config = loaded.config.unwrap();
    assert_eq!(config.gateway.id.as_str(), "press-hall-1");
    assert_eq!(config.gateway.data_dir, folder.file("data"));
    assert_eq!(config.store, StoreConfig::default());
    assert_eq!(config.limits, Limits::default());
    for (listener, address) in [
        (config.mqtt, "127.0.0.1:1883"),
        (config.coap, "127.0.0.1:5683"),
        (config.http, "127.0.0.1:8080"),
    ] {
        let listener = listener.unwrap();
        assert_eq!(listener.listen, [address.parse().unwrap()]);
        assert!(listener.anonymous);
    }
    let [server] = config.opcua.as_slice() else { panic!("there is one server") };
    assert_eq!(server.name.as_str(), "plc7");
    assert_eq!(server.endpoint.as_str(), "opc.tcp://127.0.0.1:4840");
    assert_eq!(server.security, OpcUaSecurity::None);
    assert_eq!(server.rebrowse, Duration::from_secs(60));
    assert!(matches!(server.login, OpcUaLogin::Anonymous));
    let [uplink] = config.uplinks.as_slice() else { panic!("there is one uplink") };
    assert_eq!(uplink.name.as_str(), "cloud");
    assert_eq!(uplink.link.endpoints[0].url.to_string(), "mqtt://127.0.0.1:1884");
    assert_eq!(uplink.topics[0].as_str(), "hall1/#");
    assert_eq!(uplink.topic.fill("bson.z", "-"), "tidegate/press-hall-1/bson.z");
    assert_eq!(
        (uplink.format, uplink.compression),
        (PayloadFormat::Columns, Compression::default())
    );
    assert_eq!(uplink.link.version, MqttVersion::V5);
    assert_eq!(uplink.client_id, "press-hall-1-cloud");
    assert_eq!((uplink.batch.readings, uplink.batch.age), (500, Duration::from_secs(1)));
    assert_eq!(uplink.batch.bytes, ByteSize::kib(64));
    assert_eq!(uplink.waiting.when_full, WhenFull::DropOldest);
    let commands = uplink.commands.as_ref().unwrap();
    assert_eq!(commands.filter.as_str(), "tidegate/press-hall-1/cmd/#");
    assert_eq!(commands.prefix, "tidegate/press-hall-1/cmd/");
    assert_eq!(commands.results.as_str(), "tidegate/press-hall-1/result");
}

#[test]
fn the_example_may_have_its_mapping_in_yaml() {
    let mapping = ("mappings/press-hall.yaml", PRESS_HALL_MAPPING_YAML);
    let folder = Folder::with(&[("tidegate.toml", PRESS_HALL), mapping]);
    let loaded = folder.load("tidegate.toml");
    assert!(loaded.config.is_some(), "{:#?}", folder.lines(&loaded));
    let toml = Folder::with(&[
        ("tidegate.toml", PRESS_HALL),
        ("mappings/press-hall.toml", PRESS_HALL_MAPPING),
    ]);
    let toml = toml.load("tidegate.toml");
    assert_eq!(loaded.mapping_files[0].root, toml.mapping_files[0].root);
}

const EVERYTHING: &str = r##"
[gateway]
id = "gw"
data-dir = "/var/lib/tidegate"

[store]
durability = "interval"
interval = "50ms"
max-bytes = "2GiB"
reserve = "32MiB"

[limits]
memory-ceiling = "256MiB"
[limits.net]
max-connections = 2000
max-connections-per-address = 20
connect-deadline = "5s"
[limits.mqtt]
max-connect-bytes = "32KiB"
max-packet-bytes = "2MiB"
max-keepalive = "10m"
receive-maximum = 128
session-queue-messages = 100
session-queue-bytes = "4MiB"
max-topic-levels = 16
max-topic-bytes = "1KiB"
max-filters-per-session = 10
max-user-properties = 8
max-properties-bytes = "1KiB"
retained-count = 1000
retained-bytes = "8MiB"
retained-per-principal = 100
max-sessions = 500
max-sessions-per-principal = 50
max-session-expiry = "1d"
[limits.coap]
max-body = "64KiB"
partial-uploads-total = 8
partial-uploads-per-endpoint = 2
observers-total = 100
observers-per-endpoint = 4
unverified-amplification = 2
dedup-lifetime = "120s"
dedup-entries = 1024
[limits.opcua]
max-message = "2MiB"
max-chunks = 32
max-reassembly = "8MiB"
max-array = 1000
max-string = "64KiB"
max-depth = 16
[limits.http]
header-deadline = "5s"
body-deadline = "10s"
idle-deadline = "20s"
max-header-bytes = "8KiB"
max-header-count = 50
max-body-bytes = "256KiB"
[limits.json]
max-depth = 8
[limits.downlink]
max-wire = "64KiB"
max-inflated = "256KiB"
max-ratio = 50
max-depth = 8
[limits.auth]
failures = 3
delay-max = "5m"

[mqtt]
listen = ["192.0.2.1:1883", "[::1]:1883"]
allow-plain = true

[[opcua]]
name = "plc7"
endpoint = "opc.tcp://plc7.example:4840/UA"
username = "gw"
password = { env = "PLANTED" }
rebrowse = "5m"

[[principal]]
name = "press-7"
password = { file = "secrets/press-7.hash" }
certificate = "CN=press-7"

[[jwt]]
issuer = "https://idp.example"
audience = "gw"
url = "https://idp.example:8443/keys.json"
refresh = "1h"
principal = "client_id"
principals = ["press-*", "scada"]

[[access]]
principal = "press-*"
publish = ["hall1/{principal}/#"]
subscribe = ["hall1/{principal}/+/set"]
command = []

[[uplink]]
name = "archive"
url = "mqtt://localhost"
version = "3.1.1"
client-id = "gw-1"
keep-alive = "30s"
username = "gw"
password = { credential = "cloud" }
topics = ["hall1/#", "hall2/+/x"]
topic = "up/{gateway}/{uplink}/{topic}"
format = "json"
commands = "down/{gateway}/#"
results = "up/{gateway}/result"
when-full = "refuse"
max-bytes = "64MiB"

[[uplink.rule]]
name = "slow"
topics = ["hall1/+/temperature"]
deadband = 0.5
min-interval = "10s"
change-only = true
"##;

#[test]
fn every_key_arrives() {
    let config = load(&[
        ("tidegate.toml", EVERYTHING),
        (
            "secrets/press-7.hash",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA\n",
        ),
        ("credentials/cloud", "hunter3\n"),
    ]);
    assert_eq!(config.gateway.data_dir.to_str(), Some("/var/lib/tidegate"));
    assert_eq!(config.store.durability, Durability::Interval(Duration::from_millis(50)));
    assert_eq!(
        (config.store.max_bytes, config.store.reserve),
        (ByteSize::gib(2), ByteSize::mib(32))
    );
    let (limits, default) = (&config.limits, Limits::default());
    assert_eq!(limits.memory_ceiling, ByteSize::mib(256));
    assert_eq!((limits.net.max_connections, limits.net.max_connections_per_address), (2000, 20));
    assert_eq!(
        (limits.mqtt.max_packet_bytes, limits.mqtt.receive_maximum),
        (ByteSize::mib(2), 128)
    );
    assert_eq!(limits.mqtt.max_session_expiry, Duration::from_secs(86_400));
    assert_eq!((limits.coap.max_body, limits.coap.dedup_entries), (ByteSize::kib(64), 1024));
    assert_eq!((limits.opcua.max_array, limits.opcua.max_depth), (1000, 16));
    assert_eq!((limits.http.max_header_count, limits.json.max_depth), (50, 8));
    assert_eq!((limits.downlink.max_ratio, limits.auth.failures), (50, 3));
    assert_eq!(limits.auth.delay_max, Duration::from_secs(300));
    // Each of the tables above sets every key to something else than its default.
    let unlike = [
        limits.net != default.net,
        limits.mqtt != default.mqtt,
        limits.coap != default.coap,
        limits.opcua != default.opcua,
        limits.http != default.http,
        limits.json != default.json,
        limits.downlink != default.downlink,
        limits.auth != default.auth,
    ];
    assert_eq!(unlike, [true; 8]);

    assert_eq!(config.mqtt.unwrap().listen.len(), 2);
    assert!(config.coap.is_none() && config.http.is_none());
    let OpcUaLogin::Password { username, password } = &config.opcua[0].login else {
        panic!("there is a login")
    };
    assert_eq!((username.as_str(), password.expose()), ("gw", "hunter2"));
    assert_eq!(config.opcua[0].security, OpcUaSecurity::SignAndEncrypt);
    assert_eq!(config.principals[0].name.as_str(), "press-7");
    let hash = config.principals[0].password_hash.as_ref().unwrap();
    assert!(hash.expose().ends_with("$aGFzaGhhc2hoYXNoaGFzaA"), "the line end is no part of it");
    let certificate = config.principals[0].certificate.as_ref().unwrap();
    assert_eq!(certificate.as_str(), "CN=press-7");
    let jwt = &config.jwt[0];
    assert_eq!((jwt.issuer.as_str(), jwt.audience.as_str()), ("https://idp.example", "gw"));
    assert_eq!((jwt.claim.as_str(), jwt.principals.len()), ("client_id", 2));
    let JwtKeys::At(address) = &jwt.keys else { panic!("{jwt:?}") };
    assert_eq!(address.to_string(), "https://idp.example:8443/keys.json");
    assert_eq!((address.refresh, &address.ca), (Duration::from_secs(3_600), &None));
    check_uplink(&config.uplinks[0]);
}

fn check_uplink(uplink: &UplinkConfig) {
    let url = &uplink.link.endpoints[0].url;
    assert_eq!((url.host(), url.port()), (&LinkHost::Name("localhost".into()), 1883));
    assert_eq!((uplink.link.version, uplink.format), (MqttVersion::V3, PayloadFormat::Json));
    assert_eq!(
        (uplink.client_id.as_str(), uplink.link.keep_alive),
        ("gw-1", Duration::from_secs(30))
    );
    assert_eq!(uplink.topic.fill("json", "hall1/x"), "up/gw/archive/hall1/x");
    let login = uplink.link.endpoints[0].login.as_ref().unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.as_ref().unwrap().expose()),
        ("gw", "hunter3")
    );
    assert_eq!(
        (uplink.waiting.when_full, uplink.waiting.max_bytes),
        (WhenFull::Refuse, ByteSize::mib(64))
    );
    let rule = &uplink.rules[0];
    let Action::Thin(thinning) = &rule.action else { panic!("{rule:?}") };
    assert_eq!(rule.name.as_str(), "slow");
    assert_eq!(thinning.deadband, Some(Deadband::Absolute(0.5)));
    assert_eq!(
        (thinning.change_only, thinning.min_interval),
        (true, Some(Duration::from_secs(10)))
    );
}

/// uplink.20, uplink.28, uplink.32: to whom an uplink connects, and how; a backup is as the preferred broker where it
/// does not say otherwise.
#[test]
fn the_connection_of_an_uplink_arrives() {
    let config = load(&[(
        "tidegate.toml",
        r#"
[gateway]
id = "gw"
data-dir = "data"
[[uplink]]
name = "cloud"
url = "wss://[2001:db8::1]:8443/broker?tenant=7"
username = "gw"
topics = ["a/#"]
topic = "up/{gateway}"
alpn = ["x-amzn-mqtt-ca"]
proxy = { url = "socks5://proxy.example", username = "gw", password = { env = "PLANTED" } }
interface = "wwan0"
ack-timeout = "10s"
max-in-flight = 20
max-messages-per-second = 100
max-bytes-per-second = "512KiB"
session-expiry = "2h"
[[uplink.backup]]
url = "ws://127.0.0.1:8083"
[[uplink.backup]]
url = "https://third.example/in"
[[uplink.backup]]
url = "mqtts://other.example"
username = "gw-2"
alpn = ["mqtt"]
"#,
    )]);
    let link = &config.uplinks[0].link;
    let urls: Vec<String> = link.endpoints.iter().map(|it| it.url.to_string()).collect();
    assert_eq!(
        urls,
        [
            "wss://[2001:db8::1]:8443/broker?tenant=7",
            "ws://127.0.0.1:8083/mqtt",
            "https://third.example:443/in",
            "mqtts://other.example:8883"
        ]
    );
    let paths: Vec<_> = link.endpoints.iter().map(|it| it.url.websocket_path()).collect();
    assert_eq!(paths, [Some("/broker?tenant=7"), Some("/mqtt"), None, None]);
    let logins = link.endpoints.iter().map(|it| it.login.as_ref().unwrap().username.as_str());
    assert_eq!(logins.collect::<Vec<_>>(), ["gw", "gw", "gw", "gw-2"]);
    let alpn = link.endpoints.iter().map(|it| it.tls.as_ref().map(|tls| tls.alpn.join(",")));
    let expected = [Some("x-amzn-mqtt-ca"), None, Some("http/1.1"), Some("mqtt")];
    let expected = expected.map(|name| name.map(str::to_owned));
    assert_eq!(alpn.collect::<Vec<_>>(), expected);
    let proxy = link.way.proxy.as_ref().unwrap();
    assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 1080));
    assert_eq!(proxy.login.as_ref().unwrap().0, "gw");
    assert_eq!(link.way.interface.as_deref(), Some("wwan0"));
    assert_eq!((link.ack_timeout.as_secs(), link.session_expiry.as_secs()), (10, 7_200));
    assert_eq!((link.in_flight_max, link.rates.messages), (20, Some(100)));
    assert_eq!(link.rates.bytes, Some(512 << 10));
}

/// uplink.1, uplink.2: for how long records wait, how fast they catch up, what the medium bears.
#[test]
fn what_becomes_of_waiting_records_arrives() {
    let config = load(&[(
        "tidegate.toml",
        r#"
[gateway]
id = "gw"
data-dir = "data"
[store]
endurance = "60TiB"
[[uplink]]
name = "cloud"
url = "mqtt://127.0.0.1"
topics = ["a/#"]
topic = "up/{gateway}/{encoding}"
max-age = "30d"
replay = { max-messages-per-second = 5, max-bytes-per-second = "64KiB" }
[[uplink]]
name = "plain"
url = "mqtt://127.0.0.1"
topics = ["a/#"]
topic = "up/{gateway}/{encoding}"
"#,
    )]);
    assert_eq!(config.store.endurance.map(ByteSize::get), Some(60 << 40));
    let waiting = &config.uplinks[0].waiting;
    assert_eq!(waiting.max_age, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!((waiting.replay.messages, waiting.replay.bytes), (Some(5), Some(64 << 10)));
    let plain = &config.uplinks[1].waiting;
    assert_eq!((plain.max_age, plain.replay.messages, plain.replay.bytes), (None, None, None));
    assert_eq!((plain.when_full, plain.max_bytes), (WhenFull::DropOldest, ByteSize::mib(512)));
}

/// uplink.32, A6: who says that the clock is right.
#[test]
fn uplink_32_who_says_that_the_clock_is_right() {
    let time = |table: &str| {
        let config = format!("[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n{table}");
        load(&[("tidegate.toml", &config)]).gateway.time
    };
    let seconds = Duration::from_secs;
    assert_eq!(time(""), TimeConfig::Service { wait: seconds(60) });
    assert_eq!(time("time = { trusted = true }"), TimeConfig::Trusted);
    let TimeConfig::Mark { path, wait } = time("time = { mark = \"m\", wait = \"0s\" }") else {
        panic!("a mark")
    };
    assert!(path.ends_with("m") && path.is_absolute() && wait.is_zero());
}

/// uplink.1, uplink.28: live readings first, all of them or a share; a stand-in takes the topics of the other.
#[test]
fn uplink_28_second_queues_and_stand_ins() {
    let config = load(&[(
        "tidegate.toml",
        r#"
[gateway]
id = "gw"
data-dir = "data"
[[uplink]]
name = "cloud"
url = "mqtt://127.0.0.1"
topics = ["a/#", "b/+"]
topic = "up/{gateway}/{encoding}"
replay = { order = "live-first" }
[[uplink]]
name = "spare"
url = "mqtt://127.0.0.1:1884"
topic = "up/{gateway}/{encoding}"
replay = { order = "live-first", live-share = 0.75 }
stand-in = { for = "cloud", after = "90s" }
"#,
    )]);
    let [cloud, spare] = &config.uplinks[..] else { panic!("two") };
    assert_eq!((cloud.waiting.live_share, spare.waiting.live_share), (Some(1.0), Some(0.75)));
    assert_eq!(cloud.stand_in, None);
    let stand_in = spare.stand_in.as_ref().unwrap();
    let times = (stand_in.after.as_secs(), stand_in.back_after.as_secs());
    assert_eq!((stand_in.name.as_str(), times), ("cloud", (90, 300)));
    assert_eq!(spare.topics, cloud.topics);
}

/// uplink.23: which edge node an uplink is; the gateway's id where it does not say.
#[test]
fn an_edge_node_of_sparkplug_arrives() {
    let config = load(&[(
        "tidegate.toml",
        r#"
[gateway]
id = "gw"
data-dir = "data"
[[uplink]]
name = "plain"
url = "mqtt://127.0.0.1"
topics = ["a/#"]
format = "sparkplug-b"
sparkplug-b = { group = "hall1" }
[[uplink]]
name = "scada"
url = "mqtt://127.0.0.1"
topics = ["a/#"]
format = "sparkplug-b"
[uplink.sparkplug-b]
group = "hall1"
node = "n"
primary-host = "scada"
state = "2.2"
aliases = false
commands = true
silence = "5m"
forget = "90d"
max-message = "64KiB"
[[uplink.sparkplug-b.device]]
topics = "a/{press}/{metric}"
device = "press-{press}"
metric = "{metric}"
"#,
    )]);
    let nodes: Vec<_> =
        config.uplinks.iter().map(|it| it.sparkplug.clone().expect("a node")).collect();
    assert_eq!((nodes[0].node.id.as_str(), &nodes[0].primary_host), ("gw", &None));
    assert_eq!((nodes[0].aliases, nodes[0].commands, nodes[0].silence), (true, false, None));
    assert_eq!((nodes[0].forget.as_secs(), nodes[0].payload_bytes_max), (30 * 86_400, None));
    let node = &nodes[1];
    assert_eq!((node.forget.as_secs(), node.payload_bytes_max), (90 * 86_400, Some(64 << 10)));
    assert_eq!((node.node.group.as_str(), node.node.id.as_str()), ("hall1", "n"));
    assert_eq!(node.primary_host.as_ref().map(|host| host.as_str()), Some("scada"));
    assert_eq!((node.state, node.aliases, node.commands), (StateVersion::V2, false, true));
    assert_eq!(node.silence, Some(Duration::from_secs(300)));
    let rule = DeviceRule::new("a/{press}/{metric}", "press-{press}", "{metric}").unwrap();
    assert_eq!(node.devices, [rule]);
    assert_eq!(config.uplinks[1].topic.fill("json", "a/b"), "a/b");
}

#[test]
fn a_configuration_in_yaml_says_the_same() {
    let yaml = include_str!("press-hall.yaml");
    let yaml = load(&[("tidegate.yaml", yaml), ("mappings/press-hall.toml", PRESS_HALL_MAPPING)]);
    let toml =
        load(&[("tidegate.toml", PRESS_HALL), ("mappings/press-hall.toml", PRESS_HALL_MAPPING)]);
    let without_folder = |config: Config| {
        let text = format!("{config:?}");
        let (start, end) = (text.find("data_dir").unwrap(), text.find("store:").unwrap());
        text[..start].to_owned() + &text[end..]
    };
    assert_eq!(without_folder(yaml), without_folder(toml));
}

/// broker.6, broker.7: what the broker tells its clients, and what it tells without being asked to.
#[test]
fn the_broker_tells_what_is_configured() {
    let config = |more: &str| {
        let text = format!("[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[mqtt]\n{more}");
        load(&[("tidegate.toml", &text)]).mqtt.unwrap().broker
    };
    let default = config("");
    assert_eq!(default.sys_interval, Some(Duration::from_secs(10)));
    assert!(default.server_reference.is_none() && default.response_topics.is_none());
    let given = config(
        "sys-interval = \"0s\"\nserver-reference = \"other.example:8883\"\nresponse-topics = \"to/{client-id}\"\n",
    );
    assert_eq!(given.sys_interval, None, "0 s is never");
    assert_eq!(given.server_reference.unwrap().as_str(), "other.example:8883");
    assert!(given.response_topics.is_some());
}

/// uplink.22: a device of Astarte takes the topics of its maps unless it says others, and only the interfaces that are
/// named.
#[test]
fn uplink_22_a_device_of_astarte() {
    let interface = |name: &str, owner: &str| {
        format!(
            r#"{{"interface_name":"org.example.{name}","version_major":1,"version_minor":3,"type":"datastream","ownership":"{owner}","mappings":[{{"endpoint":"/%{{press}}/value","type":"double"}}]}}"#
        )
    };
    let file = |more: &str, device: &str| {
        format!(
            "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[[uplink]]\nname = \"realm\"\nformat = \"astarte\"\n{more}\
             [uplink.astarte]\nrealm = \"test\"\n{device}\npairing = \"https://api.example/pairing\"\n\
             secret = {{ env = \"PLANTED\" }}\ninterfaces = \"interfaces\"\n\
             [[uplink.astarte.map]]\ntopic = \"hall1/press-{{n}}/t\"\ninterface = \"org.example.A\"\npath = \"/{{n}}/value\"\n\
             [[uplink.astarte.command]]\ntopic = \"hall1/{{n}}/s\"\ninterface = \"org.example.B\"\npath = \"/{{n}}/value\"\n"
        )
    };
    let all = [interface("A", "device"), interface("B", "server"), interface("C", "device")];
    let load = |text: &str| {
        let files = [
            ("tidegate.toml", text),
            ("interfaces/a.json", all[0].as_str()),
            ("interfaces/b.json", all[1].as_str()),
            ("interfaces/c.json", all[2].as_str()),
        ];
        load(&files).uplinks.remove(0)
    };
    let id = "device = \"V_zv6ThCCtXWveQ8mPjsKg\"";
    let uplink = load(&file("", id));
    assert_eq!(uplink.format, PayloadFormat::Astarte);
    let topics: Vec<&str> = uplink.topics.iter().map(|topic| topic.as_str()).collect();
    assert_eq!(topics, ["hall1/+/t"]);
    let device = uplink.astarte.unwrap();
    assert_eq!(device.setup.device.base(), "test/V_zv6ThCCtXWveQ8mPjsKg");
    assert_eq!(device.setup.interfaces.introspection(), "org.example.A:1:3;org.example.B:1:3");
    assert!(device.setup.routes.have_commands());
    let uplink = load(&file("topics = [\"hall1/press-1/#\"]\n", id));
    assert_eq!(uplink.topics[0].as_str(), "hall1/press-1/#");
    let made = "device-namespace = \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"\nhardware-id = \"www.example.com\"";
    let device = load(&file("", made)).astarte.unwrap();
    assert_eq!(device.setup.device.id().as_str(), "LtZlfeknVouV4SZlqK6mog");
}
