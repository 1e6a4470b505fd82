//! What to measure: a build of this checkout, or a program that is there.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::broker::Choice;
use crate::places::Places;
use crate::process;

/// The words after `bench`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(super) subject: Subject,
    program: Program,
}

/// Which figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The way from devices to the cloud.
    Telemetry,
    /// What waits while the cloud is away, and goes up afterwards.
    Backlog,
    /// TLS and access rules.
    Identity,
    /// What a message costs the broker, beside others.
    Broker(Choice),
}

/// Of which program.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    /// Build this profile of Cargo first.
    Build {
        /// `release` or `dist`.
        profile: String,
    },
    /// Take this program.
    Binary(PathBuf),
}

impl Options {
    /// Reads the words after `bench`.
    ///
    /// # Errors
    ///
    /// Fails on a word that is none of them, naming it.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let (subject, words) = match words {
            ["backlog", rest @ ..] => (Subject::Backlog, rest),
            ["identity", rest @ ..] => (Subject::Identity, rest),
            ["broker", rest @ ..] => {
                let (choice, rest) = Choice::parse(rest)?;
                (Subject::Broker(choice), rest)
            }
            _ => (Subject::Telemetry, words),
        };
        let program = match words {
            [] => Program::Build { profile: "release".to_owned() },
            ["--profile", profile @ ("release" | "dist")] => {
                Program::Build { profile: (*profile).to_owned() }
            }
            ["--binary", path] => Program::Binary(PathBuf::from(path)),
            other => bail!(
                "`{}`: bench takes `backlog`, `identity` or `broker [--only WORDS] [--sides NAME,…] [--rounds COUNT]`, and `--profile release`, `--profile dist` or `--binary PATH`",
                other.join(" ")
            ),
        };
        Ok(Self { subject, program })
    }

    /// Returns the program, built if need be.
    pub(super) fn binary(&self, places: &Places) -> Result<PathBuf> {
        match &self.program {
            Program::Binary(path) => {
                path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
            }
            Program::Build { profile } => {
                let _lock = places.lock()?;
                places.adopt_target()?;
                let mut cargo = places.cargo();
                cargo.args(["build", "--locked", "--package", "tidegate", "--profile", profile]);
                process::run(&mut cargo)?;
                Ok(places.target.join(profile).join("tidegate"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_others_refused() {
        let of = |subject, program| Options { subject, program };
        let build = |profile: &str| Program::Build { profile: profile.to_owned() };
        let telemetry = |program| of(Subject::Telemetry, program);
        assert_eq!(Options::parse(&[]).unwrap(), telemetry(build("release")));
        assert_eq!(Options::parse(&["--profile", "dist"]).unwrap(), telemetry(build("dist")));
        let binary = Program::Binary("x".into());
        assert_eq!(Options::parse(&["--binary", "x"]).unwrap(), telemetry(binary.clone()));
        let backlog = Options::parse(&["backlog", "--binary", "x"]).unwrap();
        assert_eq!(backlog, of(Subject::Backlog, binary.clone()));
        let identity = Options::parse(&["identity", "--binary", "x"]).unwrap();
        assert_eq!(identity, of(Subject::Identity, binary.clone()));
        let broker =
            Options::parse(&["broker", "--only", "QoS 1", "--rounds", "3", "--binary", "x"]);
        let choice = Choice { only: Some("QoS 1".to_owned()), rounds: 3, ..Choice::default() };
        assert_eq!(broker.unwrap(), of(Subject::Broker(choice), binary));
        assert!(Options::parse(&["broker", "--rounds", "0"]).is_err());
        assert!(Options::parse(&["--profile", "dev"]).is_err());
        assert!(Options::parse(&["--binary"]).is_err());
    }
}
