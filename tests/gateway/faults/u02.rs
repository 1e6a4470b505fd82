//! U02, flapping link: connections that break in the midst of every stage. What breaks behind CONNACK is in
//! `tests/gateway/chaos.rs`, too.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    authority::{self, Authority},
    chaos::{
        fate::{Fate, Trouble},
        proxy::{Chaos, Course},
    },
    mosquitto::{Mosquitto, Options},
    ports,
    rules::Rules,
    wait,
};

use super::lines::Lines;

/// After how many bytes of the gateway a connection is reset: in ClientHello, Finished, CONNECT, the first batches. No more
/// than four behind CONNACK: what connections end on again and again, with others taken in between, is given up (A4).
const CUTS: [usize; 10] = [0, 1, 50, 150, 250, 300, 330, 360, 450, 700];
/// How long the first connection lasts.
const GOOD: Duration = Duration::from_secs(1);
/// Endpoints that lead to the same broker, each with a rest of its own.
const PORTS: usize = 5;

/// U02: reset within the handshake of TLS, CONNECT and PUBLISH: nothing is lost, nothing leaks, and the next attempt is as
/// good as the first.
#[test]
fn uplink_43_fault_u02_reset_at_every_stage_of_an_encrypted_connection() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("cloud");
    let [cert, key] = authority.issue("localhost", 1).write(folder.path(), "broker");
    let port = ports::free_port();
    let more = format!("listener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}\n");
    let broker = Mosquitto::start_with(Options { more: &more, ..Options::default() });
    // The first one shows what a good connection costs.
    let good = Fate { life: Some(GOOD), ..Fate::after(0, Trouble::ResetAt(usize::MAX)) };
    let cuts = CUTS.map(|bytes| Fate::after(0, Trouble::ResetAt(bytes)));
    let fates = std::iter::once(good).chain(cuts).collect();
    let proxy = Chaos::start(Course::Listed(fates), PORTS, port);
    let more = "ca = \"ca.pem\"\nversion = \"3.1.1\"\nbatch = { readings = 10, age = \"50ms\" }\n";
    let mut lines = Lines::start_behind(proxy, "mqtts://localhost", broker, more, |gateway| {
        authority::write(gateway.folder(), "ca.pem", &authority.pem());
    });
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    let rules = Rules::note(&lines.gateway, None, &[]);
    lines.read(50);
    wait::until("the first reset", || (!lines.proxy.story().is_empty()).then_some(()));
    lines.read(150);
    let report = lines.assert_all_arrived();
    let story = lines.proxy.story();
    let kinds: BTreeSet<&str> =
        story.iter().filter_map(|it| it.split_once(": ")).map(|it| it.1).collect();
    assert_eq!(kinds.len(), 1 + CUTS.len(), "each was met: {kinds:?}");
    println!("came twice: {}", report["duplicates"]);
    rules.check(&lines.gateway);
}
