//! Development commands of the project: `cargo xtask --help` lists them.

mod bench;
mod demo;
mod package;
mod places;
mod process;
mod setup;
mod steps;
mod test;

use std::process::ExitCode;

use crate::bench::Options;
use crate::places::Places;
use crate::test::Tier;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  test [--all]              install what the tests need, then run what every change must pass;
                            with --all also what a finished capability must pass
  setup                     only install what the tests need
  package [--arch NAME]     build a static .deb for amd64, arm64, armhf or all (default: this machine's)
                            and run its program unpacked, under qemu if need be;
                            with --try-install also install and purge it here, as root;
                            with --try-service install, run, upgrade, remove and purge it in a container
                            with a systemd of its own, as root
  bench [--profile NAME]    build the gateway (release or dist) and print the figures of docs/performance.md;
                            with --binary PATH measure that program instead;
                            `bench backlog …`: what a gibibyte that waits costs;
                            `bench identity …`: those of TLS and access rules;
                            `bench broker [--only WORDS] [--sides NAME,…] [--rounds COUNT] …`:
                            what a message costs the broker, beside others and a relay;
                            `bench broker --instructions …`: by callgrind, and no more than is recorded

Environment:
  CARGO_TARGET_DIR          where builds go; default: the cache folder, shared by all checkouts
  XDG_CACHE_HOME            parent of the cache folder `tidegate`; default: ~/.cache
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test"] => Places::find().and_then(|places| test::run(places, Tier::EveryChange)),
        ["test", "--all"] => Places::find().and_then(|places| test::run(places, Tier::All)),
        ["setup"] => Places::find().and_then(|places| {
            let _lock = places.lock()?;
            setup::run(&places).map(drop)
        }),
        // What `setup` runs through sudo; not for people.
        ["system-packages"] => setup::debian::install_missing(),
        ["package", options @ ..] => package::Options::parse(options)
            .and_then(|options| package::run(&Places::find()?, &options)),
        ["bench", options @ ..] => {
            Options::parse(options).and_then(|options| bench::run(&Places::find()?, &options))
        }
        [] | ["-h" | "--help" | "help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("error: unknown command `{}`\n\n{USAGE}", words.join(" "));
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
