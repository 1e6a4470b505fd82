//! The broker core and the journal in one thread, against a model of what a correct broker may do (broker.32, broker.34).
//!
//! Time is virtual, and everything that happens follows from a seed: clients of both versions that come, go, take
//! over, subscribe, publish and acknowledge late; a disk that makes transactions durable late, is full, or loses its
//! power; restarts. The model is in [`reference`]. A failure prints its seed:
//! `TIDEGATE_SIMULATION_SEED=17 cargo test -p tidegate-broker --test simulation` runs that one alone and prints
//! every step. `TIDEGATE_TIER=all` runs millions of steps, `TIDEGATE_SIMULATION_SEEDS=150` so many seeds.
#![allow(clippy::unwrap_used, reason = "tests, and what they call")]

mod client;
mod link;
mod reference;
mod script;
mod world;

use self::script::Script;

/// Steps of one seed, before everything is brought to rest.
const STEPS: u64 = 2_000;

/// How many seeds are run: some ten seconds' worth, or millions of steps.
fn seeds() -> u64 {
    let asked = std::env::var("TIDEGATE_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok());
    let deep = std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all");
    asked.unwrap_or(if deep { 20_000 } else { 1_000 })
}

/// Says how a failing run is repeated.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Repeat it with TIDEGATE_SIMULATION_SEED={}", self.0);
        }
    }
}

/// broker.32, broker.34, and by them D2 to D12: whatever the order of events, nothing happens that the model forbids.
#[test]
fn the_broker_does_what_the_model_allows() {
    let chosen = std::env::var("TIDEGATE_SIMULATION_SEED").ok().and_then(|text| text.parse().ok());
    let range = chosen.map_or(0..seeds(), |seed| seed..seed + 1);
    let range_is_full = range.end - range.start >= 1_000;
    let mut totals = script::Totals::default();
    for seed in range {
        let _repeat = Repeat(seed);
        let mut script = Script::new(seed, chosen.is_some());
        script.run(STEPS);
        totals.add(script.totals());
    }
    println!("{totals}");
    if range_is_full {
        totals.assert_something_happened();
    }
}
