//! Limits of connections (broker.12); those of handshakes are in the case M05.

use std::time::Duration;

use serde_json::json;

use super::Bench;
use crate::support::{
    crowd::Crowds,
    wait,
    wire::{Hello, Wire},
};

#[test]
fn broker_12_connections_are_bounded_in_all_and_from_one_address() {
    let bench =
        Bench::start("[limits.net]\nmax-connections = 20\nmax-connections-per-address = 12\n");
    let (mut first, _) = Wire::connect(bench.mqtt, &Hello { client_id: "a", ..Hello::default() });
    assert_eq!(first.subscribe("x", 1), 1);
    let mut crowds = Crowds::start();
    let from = |source: &str| json!({"source": source});
    // With the first one there is room for 19 more, 12 of them from one address.
    for (name, source, count, left) in [("one", "127.0.0.3", 15, 12), ("two", "127.0.0.4", 10, 7)] {
        crowds.gather(name, "silent", bench.mqtt, count, from(source));
        crowds.ready(name);
        let found = wait::within(Duration::from_secs(8), || {
            (crowds.report(name)["open"] == left).then_some(())
        });
        assert!(found.is_some(), "{left} are left: {}", crowds.report(name));
    }
    let per_address = "net.max-connections-per-address";
    assert_eq!(bench.refusals_after(per_address, 2), 3, "the exact number");
    assert_eq!(bench.refusals_after("net.max-connections", 2), 3, "the exact number");
    assert_eq!(bench.count("connections-refused"), 6);
    assert_eq!(first.publish("x", "y"), 0, "whoever is there is served");
    assert_eq!(first.messages(super::QUIET).len(), 1);
    crowds.leave("two");
    wait::until("room for others", || Wire::open(bench.mqtt, 5).gets_in().then_some(()));
    drop(crowds);
}
