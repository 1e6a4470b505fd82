//! `cargo xtask bench broker`: what a message costs the broker, beside others and a bare relay.

mod instructions;
mod load;
mod relay;
mod sides;
mod state;
mod swarm;
mod wire;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::load::{LOADS, Load};
use self::relay::Relay;
use self::sides::Side;
use self::swarm::{Handled, Swarm};
use super::Run;
use super::figures::{Spread, Table};

/// How often each side is loaded, in turn.
const ROUNDS: usize = 7;

/// What runs before a measurement begins.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a load is measured.
const MEASURED: Duration = Duration::from_secs(1);

/// Which loads, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// A part of the names of the loads; all without one.
    pub(super) only: Option<String>,
    /// The names of the sides, with commas between them; all without one.
    pub(super) sides: Option<String>,
    /// Rounds of all sides.
    pub(super) rounds: usize,
    /// Instead of all that: the instructions of a message, and no more than are recorded.
    pub(super) counts_instructions: bool,
}

impl Choice {
    /// Reads `--only`, `--sides`, `--rounds` and `--instructions`; returns the words behind them.
    ///
    /// # Errors
    ///
    /// Fails on a number of rounds that is none.
    pub(super) fn parse<'w, 'a>(mut words: &'w [&'a str]) -> Result<(Self, &'w [&'a str])> {
        let mut choice = Self::default();
        loop {
            match words {
                ["--only", only, rest @ ..] => {
                    choice.only = Some((*only).to_owned());
                    words = rest;
                }
                ["--sides", sides, rest @ ..] => {
                    choice.sides = Some((*sides).to_owned());
                    words = rest;
                }
                ["--instructions", rest @ ..] => {
                    choice.counts_instructions = true;
                    words = rest;
                }
                ["--rounds", rounds, rest @ ..] => {
                    choice.rounds = rounds.parse().context("--rounds takes a number")?;
                    ensure!(choice.rounds > 0, "--rounds takes at least 1");
                    words = rest;
                }
                _ => return Ok((choice, words)),
            }
        }
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self { only: None, sides: None, rounds: ROUNDS, counts_instructions: false }
    }
}

/// What a side did in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    handled: Handled,
    /// Processor time of the broker.
    cpu: Duration,
}

impl Round {
    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.handled.delivered.max(1) as f64
    }

    fn rate(&self) -> f64 {
        self.handled.delivered as f64 / self.handled.elapsed.as_secs_f64()
    }
}

/// Measures, and returns the table.
pub(super) fn measure(run: &Run<'_>, choice: &Choice) -> Result<Table> {
    if choice.counts_instructions {
        return instructions::measure(run);
    }
    let mut table = Table::default();
    let is_wanted = |name: &str| {
        choice.sides.as_ref().is_none_or(|sides| sides.split(',').any(|side| side == name))
    };
    let sides = Side::start_all(run, is_wanted)?;
    let is_chosen = |name: &str| choice.only.as_ref().is_none_or(|only| name.contains(only));
    let chosen = || LOADS.iter().filter(|load| is_chosen(load.name));
    // While nothing has been used and given back.
    if is_chosen(state::IDLE) {
        state::idle(&sides, &mut table)?;
    }
    for load in chosen().filter(|load| load.idle_filters == 0) {
        compare(load, &sides, choice.rounds, &mut table)?;
    }
    for side in &sides {
        let peak = super::mebibytes(side.peak_bytes()?);
        let aim = if side.is_measured_by_aims() { "24 MiB" } else { "-" };
        table.row(&format!("peak memory in these loads: {}", side.name), aim, peak);
    }
    if is_chosen(state::RETAINED) {
        state::retained(&sides, choice.rounds, &mut table)?;
    }
    for load in chosen().filter(|load| load.idle_filters > 0) {
        compare(load, &sides, choice.rounds, &mut table)?;
    }
    Ok(table)
}

/// Loads every side in turn, round after round, so that what else the machine does meets all of them.
fn compare(load: &Load, sides: &[Side], rounds: usize, table: &mut Table) -> Result<()> {
    let mut relayed = Vec::with_capacity(rounds);
    let taking: Vec<&Side> = sides.iter().filter(|side| side.takes(load)).collect();
    let mut handled: Vec<Vec<Round>> = taking.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for number in 0..rounds {
        if load.is_relayed() {
            relayed.push(relay_round(load)?);
        }
        for (side, rounds) in taking.iter().zip(&mut handled) {
            let tag = format!("{number}");
            let round = side_round(load, side, &tag)
                .with_context(|| format!("{}: {}", side.name, load.name))?;
            rounds.push(round);
        }
    }
    if !relayed.is_empty() {
        tell(load, "relay", "-", &relayed, &relayed, table);
    }
    for (side, rounds) in taking.iter().zip(&handled) {
        let aim = if side.is_measured_by_aims() { load.aim } else { "-" };
        tell(load, side.name, aim, rounds, &relayed, table);
    }
    Ok(())
}

fn tell(load: &Load, side: &str, aim: &str, rounds: &[Round], relay: &[Round], table: &mut Table) {
    let cpu = Spread::of(rounds.iter().map(Round::micros)).micros();
    let rate = Spread::of(rounds.iter().map(Round::rate)).median();
    let late = rounds.iter().map(|round| round.handled.late.as_secs_f64() * 1e3);
    let late = Spread::of(late).median();
    let mut shown = format!("{cpu}, {rate:.0}/s, 99 % within {late:.2} ms");
    if side != "relay" && !relay.is_empty() {
        let ratios = rounds.iter().zip(relay).map(|(round, relay)| round.micros() / relay.micros());
        shown += &format!(", {} relays", Spread::of(ratios).ratio());
    }
    let lost: u64 = rounds.iter().map(|round| round.handled.lost).sum();
    if lost > 0 {
        shown += &format!(", {lost} lost");
    }
    table.row(&format!("{}: {side}", load.name), aim, shown);
}

fn relay_round(load: &Load) -> Result<Round> {
    let relay = Relay::start(load)?;
    let mut swarm = Swarm::join(load, relay.port(), None)?;
    swarm.run(WARM_UP)?;
    let before = relay.cpu()?;
    let handled = swarm.run(MEASURED)?;
    let cpu = relay.cpu()?.saturating_sub(before);
    swarm.drain()?;
    Ok(Round { handled, cpu })
}

fn side_round(load: &Load, side: &Side, tag: &str) -> Result<Round> {
    let mut swarm = Swarm::join(load, side.port, Some(tag))?;
    swarm.run(WARM_UP)?;
    let before = side.cpu()?;
    let mut handled = swarm.run(MEASURED)?;
    let cpu = side.cpu()?.saturating_sub(before);
    handled.lost = swarm.drain()?;
    Ok(Round { handled, cpu })
}
