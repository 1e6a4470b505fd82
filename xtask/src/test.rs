//! `cargo xtask test`: what every change must pass, and what a finished capability must pass.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::demo;
use crate::package::{self, Trial};
use crate::places::{Places, build_jobs};
use crate::process;
use crate::setup::{self, Tools};
use crate::steps::{self, Step};

/// How much is tested (docs/promises.md, A10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Reduced counts, one case for each mechanism.
    EveryChange,
    /// Full counts, the release build, the demo and the package.
    All,
}

/// Seeds of each simulation in the deep tier.
const SEEDS: &str = "20000";

/// What every step knows.
struct Bench {
    places: Places,
    tools: Tools,
    tier: Tier,
}

const EVERY_CHANGE: &[Step<Bench>] = &[
    Step { name: "format", action: |bench| bench.cargo(&["fmt", "--all", "--check"]) },
    Step { name: "lints", action: lints },
    Step { name: "dependencies", action: dependencies },
    Step { name: "service unit", action: service_unit },
    Step { name: "peers", action: peers },
    Step {
        name: "tests",
        action: |bench| bench.cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]),
    },
    Step { name: "fuzz targets", action: fuzz_targets },
];

const ALL: &[Step<Bench>] = &[
    Step {
        name: "release build",
        action: |bench| bench.cargo(&["build", "--locked", "--release"]),
    },
    Step { name: "demo", action: demonstration },
    Step { name: "package", action: package },
];

/// Installs what is missing, runs the steps of `tier` and prints the table of them.
pub(crate) fn run(places: Places, tier: Tier) -> Result<()> {
    let lock = places.lock()?;
    let tools = setup::run(&places)?;
    places.adopt_target()?;
    println!("Building with {} jobs in {}", build_jobs(), places.target.display());
    let bench = Bench { places, tools, tier };
    let steps = match tier {
        Tier::EveryChange => EVERY_CHANGE.iter().collect::<Vec<_>>(),
        Tier::All => EVERY_CHANGE.iter().chain(ALL).collect(),
    };
    let outcome = steps::run_all(&steps, &bench);
    drop(lock);
    outcome
}

impl Bench {
    fn cargo(&self, arguments: &[&str]) -> Result<()> {
        self.run(self.places.cargo().args(arguments))
    }

    /// Runs a program with what tests take from the environment.
    fn run(&self, command: &mut Command) -> Result<()> {
        let tier = match self.tier {
            Tier::EveryChange => "change",
            Tier::All => "all",
        };
        command.env("TIDEGATE_TIER", tier).env("TIDEGATE_PYTHON", &self.tools.python);
        command.env("TIDEGATE_JAVASCRIPT", &self.tools.javascript);
        if self.tier == Tier::All {
            command.env("TIDEGATE_SEEDS", SEEDS);
        }
        process::run(command)?;
        Ok(())
    }
}

fn lints(bench: &Bench) -> Result<()> {
    bench.cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// Each fuzz target over its corpus and seeded changes of it, in a workspace of their own (broker.33).
fn fuzz_targets(bench: &Bench) -> Result<()> {
    let manifest = ["--manifest-path", "fuzz/Cargo.toml"];
    let lints = ["--all-targets", "--", "-D", "warnings"];
    bench.cargo(&[&["fmt", "--check"], &manifest[..]].concat())?;
    bench.cargo(&[&["clippy", "--locked"], &manifest[..], &lints[..]].concat())?;
    bench.cargo(&[&["test", "--locked"], &manifest[..]].concat())
}

/// Licences, bans and sources; advisories need a database from outside (see deny.toml).
fn dependencies(bench: &Bench) -> Result<()> {
    let mut deny = process::command(&bench.tools.cargo_deny);
    deny.current_dir(&bench.places.root);
    deny.args(["--locked", "--workspace", "check", "--hide-inclusion-graph"]);
    bench.run(deny.args(["licenses", "bans", "sources"]))
}

/// The hardening of the service unit, by systemd's own score (docs/promises.md, B6; C16).
fn service_unit(bench: &Bench) -> Result<()> {
    let analyze = process::find("systemd-analyze").context("systemd-analyze is not installed")?;
    let unit = bench.places.root.join("systemd/tidegate.service");
    let mut command = process::command(analyze);
    command.args(["security", "--no-pager", "--offline=true", "--threshold=12"]).arg(unit);
    let report = process::read(&mut command)?;
    println!("{}", report.lines().last().unwrap_or_default());
    Ok(())
}

/// The Python peers judge the gateway, so they are tested first.
fn peers(bench: &Bench) -> Result<()> {
    let mut python = process::command(&bench.tools.python);
    python.current_dir(&bench.places.root).env("PYTHONDONTWRITEBYTECODE", "1");
    bench.run(python.args([
        "-m",
        "unittest",
        "discover",
        "--start-directory",
        "tests/support/peers",
    ]))
}

/// The first command of the README, by what its receiving side says (main.2, main.25).
fn demonstration(bench: &Bench) -> Result<()> {
    let mut demo = bench.places.cargo();
    let summary = process::read(demo.args([
        "run",
        "--locked",
        "--release",
        "--quiet",
        "--",
        "demo",
        "--for",
        "10s",
    ]))?;
    println!("{summary}");
    demo::judge(&summary)
}

fn package(bench: &Bench) -> Result<()> {
    let trial = if process::is_root() { Trial::Service } else { Trial::Unpack };
    package::build_and_try(&bench.places, &package::Options { architectures: None, trial })
}
