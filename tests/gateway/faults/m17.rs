//! M17: more sessions than there may be.

use std::time::Duration;

use super::{
    figure,
    plant::{Plant, access},
};
use crate::support::wire::{End, Hello, Wire};

const QUOTA: u8 = 0x97;

/// M17: one principal's sessions, and all, are bounded; whoever has one keeps it.
#[test]
fn fault_m17_session_exhaustion() {
    let (attempts, own, all) = figure((400, 60, 100), (100_000, 1_000, 20_000));
    let limits = format!(
        "[limits.mqtt]\nmax-sessions-per-principal = {own}\nmax-sessions = {all}\nmax-session-expiry = \"1h\"\n"
    );
    let plant =
        Plant::start(&["alice", "bob", "eve"].map(|name| access(name, &["a/#"])).concat(), &limits);
    // Before the flood: Bob has a session with a message in it.
    let mut operator = plant.connect("operator", "operator");
    let (mut bob, _) = Wire::connect(plant.mqtt, &persistent(&plant, "bob", "b"));
    assert_eq!(bob.subscribe("a/#", 1), 1);
    leave(bob);
    assert_eq!(operator.publish("a/1", "kept"), 0);
    let journal = |plant: &Plant| {
        plant.gateway.status(&[])["store"]["written-bytes"].as_u64().expect("a number")
    };
    let rules = plant.note();
    let before = journal(&plant);

    let (mut accepted, mut refused) = (0, 0);
    for number in 0..attempts {
        let client_id = format!("{:08x}", number * 2_654_435_761_u64 % 0xffff_fffb);
        let mut wire = Wire::open(plant.mqtt, 5);
        wire.send(&persistent(&plant, "alice", &client_id).to_bytes());
        let answer = wire.expect(2);
        if answer.body[1] == 0 {
            let asked = [0x11, 0, 0, 0x0e, 0x10];
            let is_capped = answer.body.windows(5).any(|property| property == asked);
            assert!(is_capped, "the expiry is capped to an hour: {answer:?}");
            assert_eq!(wire.subscribe("a/#", 1), 1);
            leave(wire);
            accepted += 1;
        } else {
            assert_eq!(answer.body[1], QUOTA, "{answer:?}");
            assert_eq!(wire.end(), End::Cut);
            refused += 1;
        }
    }
    println!("{accepted} sessions, {refused} refused, {} bytes written", journal(&plant) - before);
    assert_eq!((accepted, refused), (own, attempts - own));
    assert_eq!(plant.count("sessions-refused"), refused, "G6: the exact number");
    // The refused ones cost nothing on disk: what there is belongs to the accepted.
    assert!(journal(&plant) - before < own * 8_192 + (4 << 20));

    // Others have their share until all places are taken; those who have one are not touched.
    let (mut eves, mut total) = (0, plant.count("sessions"));
    while total < all {
        let (wire, result) =
            Wire::try_connect(plant.mqtt, &persistent(&plant, "eve", &format!("e{eves}")));
        if result == Err(QUOTA) {
            break;
        }
        leave(wire);
        (eves, total) = (eves + 1, total + 1);
    }
    println!("{eves} sessions of another, {total} in all");
    assert!(eves > 0 && (eves == own || total >= all - 2), "{eves} of {own}, {total} of {all}");
    assert!(plant.count("sessions") <= all);
    let (mut bob, present) = Wire::connect(plant.mqtt, &persistent(&plant, "bob", "b"));
    assert!(present);
    let kept: Vec<_> =
        bob.messages(Duration::from_millis(500)).into_iter().map(|m| m.payload).collect();
    assert_eq!(kept, ["kept"], "G1");
    let (alice, present) = Wire::connect(plant.mqtt, &persistent(&plant, "alice", "00000000"));
    assert!(present, "her first one");
    drop((alice, bob, operator));
    rules.check(&plant.gateway);
}

/// Says good-bye and waits until the gateway has heard it.
fn leave(mut wire: Wire) {
    wire.send(&[0xe0, 0]);
    assert_eq!(wire.end(), End::Cut);
}

/// A client that wants to be remembered for ever.
fn persistent<'a>(plant: &'a Plant, account: &'a str, client_id: &'a str) -> Hello<'a> {
    Hello { clean: false, expiry: u32::MAX, ..plant.hello(account, client_id) }
}
