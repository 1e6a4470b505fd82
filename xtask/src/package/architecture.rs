//! The processors that packages are made for, and what Rust, gcc and qemu call them.

use anyhow::{Context, Result};

use crate::process;

/// An architecture of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// PCs and servers, 64-bit.
    Amd64,
    /// Arm, 64-bit: Raspberry Pi 3 and later, most gateways sold today.
    Arm64,
    /// Arm, 32-bit with floating point: ARMv7 and later.
    Armhf,
}

impl Architecture {
    /// Every one, the quickest to build first.
    pub(crate) const ALL: [Self; 3] = [Self::Amd64, Self::Arm64, Self::Armhf];

    /// Returns the architecture that Debian calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.debian() == name)
    }

    /// Returns the architecture of this machine.
    pub(crate) fn here() -> Result<Self> {
        let name = process::read(process::command("dpkg").arg("--print-architecture"))?;
        let name = name.trim();
        Self::named(name).with_context(|| format!("no package is made for {name}"))
    }

    /// Returns Debian's name.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armhf => "armhf",
        }
    }

    /// Returns Rust's name of the target.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
            Self::Armhf => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// Returns what the names of gcc's programs and packages for it begin or end with.
    pub(crate) fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
            Self::Armhf => "arm-linux-gnueabihf",
        }
    }

    /// Returns the program that runs its programs on another machine.
    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-x86_64-static",
            Self::Arm64 => "qemu-aarch64-static",
            Self::Armhf => "qemu-arm-static",
        }
    }
}
