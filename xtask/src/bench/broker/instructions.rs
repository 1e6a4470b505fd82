//! Instructions that a message costs the gateway, counted by callgrind: a figure that the machine's noise does not touch.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::Load;
use super::sides::{IN_MEMORY, LIMITS};
use super::swarm::Swarm;
use crate::bench::Run;
use crate::bench::figures::Table;
use crate::bench::gateway::Site;
use crate::setup::debian;

/// What runs the gateway.
const RUNNER: &[&str] =
    &["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--error-limit=no"];
/// Messages sent before those that are counted: memory is taken and tables have grown by then.
const FEW: u64 = 20_000;
/// Messages of a longer run; the difference of the runs is what `MANY - FEW` cost.
const MANY: u64 = 60_000;
/// More than this above what is recorded fails, in percent.
const TOLERANCE_PERCENT: u64 = 10;
/// How long a message may take: some fifty times as long as without callgrind.
const PATIENCE: Duration = Duration::from_secs(120);

/// A load and the instructions of a delivered message that are recorded for it.
struct Recorded {
    load: Load,
    instructions: u64,
}

/// Profile `dist` with all features, rustc 1.95, amd64, glibc of Debian 12; record anew with another of them.
fn recorded() -> [Recorded; 3] {
    let base = Load::SMALL;
    [
        Recorded { load: base, instructions: 4_700 },
        Recorded {
            load: Load {
                name: "instructions: 1 publisher to 50 subscribers, QoS 0, 64 B",
                publishers: 1,
                subscribers: 50,
                ..base
            },
            instructions: 1_160,
        },
        Recorded {
            load: Load {
                name: "instructions: 10 pairs, QoS 1, 64 B",
                subscribers: 10,
                qos: 1,
                packets_per_write: 1,
                window: 20,
                ..base
            },
            instructions: 7_800,
        },
    ]
}

/// Counts, and fails if a message costs more than is recorded.
pub(super) fn measure(run: &Run<'_>) -> Result<Table> {
    debian::ensure_packages(&["valgrind"])?;
    let mut table = Table::default();
    let mut worse = Vec::new();
    for Recorded { load, instructions } in recorded() {
        let (few, many) = (count(run, &load, FEW)?, count(run, &load, MANY)?);
        let delivered = (MANY - FEW) * load.copies() as u64;
        let each = many.saturating_sub(few) / delivered;
        table.row(load.name, &format!("≤ {instructions}"), each.to_string());
        if each * 100 > instructions * (100 + TOLERANCE_PERCENT) {
            worse.push(load.name);
        }
    }
    ensure!(
        worse.is_empty(),
        "a message costs more than is recorded: {}\n{table}",
        worse.join(", ")
    );
    Ok(table)
}

/// Returns the instructions of a gateway that starts, carries so many messages, and ends.
fn count(run: &Run<'_>, load: &Load, messages: u64) -> Result<u64> {
    let more = &format!("{IN_MEMORY}{LIMITS}");
    let site = Site { more, runner: RUNNER, ..Site::default() };
    let gateway = run.gateway("counted", site)?;
    let mut swarm = Swarm::join(load, gateway.mqtt, Some("counted"))?;
    swarm.send(messages, PATIENCE)?;
    let lost = swarm.drain()?;
    ensure!(lost == 0, "{lost} messages are lost");
    drop(swarm);
    let said = gateway.end()?;
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = collected.with_context(|| format!("callgrind tells nothing:\n{said}"))?;
    number.trim().parse().with_context(|| format!("callgrind counted {number:?}"))
}
