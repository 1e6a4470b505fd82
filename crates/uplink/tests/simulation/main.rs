//! The uplink over a real journal on a simulated disk, against a cloud that loses, reorders, refuses and
//! closes, with power cuts, in one thread and from seeds.

#![expect(clippy::unwrap_used, reason = "a test fails there")]

mod cloud;
mod rules;
mod world;

use std::collections::BTreeMap;

use tidegate_store::simulation::Random;
use tidegate_uplink::{DropReason, WhenFull};

use cloud::{Cloud, Temper};
use rules::RulePlan;
use world::{Plan, World};

/// Runs a plan from a seed to its end and checks everything that must hold then.
fn check(seed: u64, plan: Plan) -> World {
    let mut world = World::new(seed, plan);
    world.run();
    world.check_at_the_end();
    world
}

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    // One failing seed: TIDEGATE_SEED=123 cargo test …; more of them: TIDEGATE_SEEDS=2000.
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let count = number("TIDEGATE_SEEDS").unwrap_or(count);
    let range = number("TIDEGATE_SEED").map_or(0..count, |seed| seed..seed + 1);
    range.inspect(|seed| println!("seed {seed}"))
}

/// main.15, main.21, U02, U10: acknowledgements are lost and come late, connections break, power fails.
#[test]
fn fault_u02_u10_nothing_acknowledged_is_lost() {
    for seed in seeds(150) {
        let world = check(seed, Plan { temper: Temper::rough(), ..Plan::default() });
        assert_eq!(world.cloud.gaps, BTreeMap::new(), "nothing was dropped");
        assert_eq!(world.ledger.outcomes.delivered, world.durable_records());
    }
}

/// main.21: the rules of the file change while the gateway is down.
#[test]
fn what_was_decided_stays_decided_when_rules_change() {
    for seed in seeds(100) {
        let plan = Plan { temper: Temper::rough(), rules: RulePlan::Thinning, ..Plan::default() };
        let world = check(seed, plan);
        assert!(!world.ledger.outcomes.filtered.is_empty(), "the rules hold something back");
    }
}

/// uplink.4, uplink.5, D15, D16: what waits in a rule is queued, and filtered when a figure stands for it; a
/// restart in the middle of a window gives the same window; each reading is in one figure that is delivered.
#[test]
fn readings_that_wait_in_rules_are_summed_up_once() {
    let (mut made, mut held, mut boots) = (0, 0, 0);
    for seed in seeds(60) {
        let plan = Plan {
            temper: Temper::rough(),
            rules: RulePlan::Holding,
            with_expiry: seed % 3 == 0,
            ..Plan::default()
        };
        let world = check(seed, plan);
        made += world.ledger.outcomes.made_total();
        held += world.restarts_with_held;
        boots += 1;
    }
    assert!(made > 10 * boots && held > boots, "{made} made, {held} restarts within windows");
}

/// uplink.4: other rules give up what waited in those of before, and count it.
#[test]
fn what_waits_is_given_up_when_rules_change() {
    for seed in seeds(40) {
        let rules = RulePlan::HoldingOthers;
        check(seed, Plan { temper: Temper::rough(), rules, ..Plan::default() });
    }
}

/// uplink.4, S03: records that are lost before they are read again are counted, also those that wait.
#[test]
fn damage_to_what_waits_in_rules_is_counted() {
    for seed in seeds(30) {
        let rules = RulePlan::Holding;
        let plan = Plan { temper: Temper::rough(), damage: true, rules, ..Plan::default() };
        let mut world = World::new(seed, plan);
        world.run();
        world.check_at_the_end();
    }
}

/// A4: what is given up while rules hold readings is told all the same.
#[test]
fn a_full_uplink_with_rules_drops_and_says_so() {
    let mut dropped = 0;
    for seed in seeds(30) {
        let plan = Plan {
            temper: Temper { connected_permille: 300, ..Temper::rough() },
            max_bytes: 6_000,
            records: 600,
            rules: RulePlan::Holding,
            ..Plan::default()
        };
        let world = check(seed, plan);
        dropped += world.ledger.outcomes.dropped.get(&DropReason::Full).copied().unwrap_or(0);
    }
    assert!(dropped > 100, "{dropped} records were dropped");
}

/// main.16: records expire while they wait.
#[test]
fn expired_records_are_counted() {
    let mut expired = 0;
    for seed in seeds(40) {
        let plan = Plan { temper: Temper::rough(), with_expiry: true, ..Plan::default() };
        expired += check(seed, plan).ledger.outcomes.expired;
    }
    assert!(expired > 0);
}

/// U05: some payloads are refused, or make the far side close the connection.
#[test]
fn fault_u05_a_poisonous_reading_does_not_block_the_others() {
    for seed in seeds(60) {
        let temper = if seed % 2 == 0 { Temper::refusing() } else { Temper::closing() };
        let plan = Plan { temper, poison_every: 25, records: 200, ..Plan::default() };
        let world = check(seed, plan);
        let dead = world.ledger.outcomes.dropped.get(&DropReason::DeadLetter).copied();
        // Only what the cloud cannot stand is given up.
        assert_eq!(dead.unwrap_or(0), world.poisonous_records(), "seed {seed}");
    }
}

/// Each reading is a message of its own.
#[test]
fn formats_of_single_readings_lose_nothing_either() {
    for seed in seeds(40) {
        let plan =
            Plan { temper: Temper::rough(), per_reading: true, records: 150, ..Plan::default() };
        let world = check(seed, plan);
        assert_eq!(world.ledger.outcomes.delivered, world.durable_records());
    }
}

/// A4: an uplink that is full lets its oldest records go, with their numbers in gaps.
#[test]
fn a_full_uplink_drops_its_oldest_and_says_so() {
    let mut dropped = 0;
    for seed in seeds(80) {
        let plan = Plan {
            temper: Temper { connected_permille: 300, ..Temper::rough() },
            max_bytes: 6_000,
            records: 600,
            ..Plan::default()
        };
        let world = check(seed, plan);
        dropped += world.ledger.outcomes.dropped.get(&DropReason::Full).copied().unwrap_or(0);
    }
    assert!(dropped > 1_000, "{dropped} records were dropped");
}

/// A4: one that refuses drops nothing.
#[test]
fn an_uplink_that_refuses_drops_nothing() {
    for seed in seeds(20) {
        let plan = Plan {
            temper: Temper::rough(),
            max_bytes: 6_000,
            when_full: WhenFull::Refuse,
            ..Plan::default()
        };
        let world = check(seed, plan);
        assert_eq!(world.ledger.outcomes.dropped, BTreeMap::new());
    }
}

/// main.21: losing one record on purpose turns the books red.
#[test]
fn a_record_lost_in_silence_unbalances_the_books() {
    for seed in seeds(20) {
        // A record that is lost before a restart is read again after it.
        let plan = Plan { temper: Temper::calm(), crash_permille: 0, ..Plan::default() };
        let mut world = World::new(seed, plan);
        world.lose_one_item = Some(1 + Random::new(seed).below(100));
        world.run();
        assert!(!world.ledger.is_balanced(), "seed {seed}: {:?}", world.ledger);
        assert!(!world.ledger.is_sound());
        assert_eq!(world.ledger.missing(), 1);
    }
}

/// main.16, main.21: records that the medium has lost are counted, told as a gap, and shown in red.
#[test]
fn damage_is_counted_and_told() {
    let mut damaged = 0;
    for seed in seeds(60) {
        let plan = Plan { temper: Temper::rough(), damage: true, ..Plan::default() };
        let mut world = World::new(seed, plan);
        world.run();
        world.check_at_the_end();
        let lost = world.ledger.outcomes.dropped.get(&DropReason::Damaged).copied().unwrap_or(0);
        assert_eq!(world.ledger.is_sound(), lost == 0);
        damaged += lost;
    }
    assert!(damaged > 0);
}

/// A cloud that takes everything gets each batch once.
#[test]
fn a_calm_cloud_sees_no_duplicates() {
    let plan = Plan { temper: Temper::calm(), crash_permille: 0, ..Plan::default() };
    let world = check(1, plan);
    assert_eq!(world.cloud.duplicates, 0);
    assert!(Cloud::default().readings.is_empty());
}
