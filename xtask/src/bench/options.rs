//! What to measure: a build of this checkout, or a program that is there.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::places::Places;
use crate::process;

/// The words after `bench`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Options {
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
        match words {
            [] => Ok(Self::Build { profile: "release".to_owned() }),
            ["--profile", profile @ ("release" | "dist")] => {
                Ok(Self::Build { profile: (*profile).to_owned() })
            }
            ["--binary", path] => Ok(Self::Binary(PathBuf::from(path))),
            other => bail!(
                "`{}`: bench takes `--profile release`, `--profile dist` or `--binary PATH`",
                other.join(" ")
            ),
        }
    }

    /// Returns the program, built if need be.
    pub(super) fn binary(&self, places: &Places) -> Result<PathBuf> {
        match self {
            Self::Binary(path) => {
                path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
            }
            Self::Build { profile } => {
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
        let build = |profile: &str| Options::Build { profile: profile.to_owned() };
        assert_eq!(Options::parse(&[]).unwrap(), build("release"));
        assert_eq!(Options::parse(&["--profile", "dist"]).unwrap(), build("dist"));
        assert_eq!(Options::parse(&["--binary", "x"]).unwrap(), Options::Binary("x".into()));
        assert!(Options::parse(&["--profile", "dev"]).is_err());
        assert!(Options::parse(&["--binary"]).is_err());
    }
}
