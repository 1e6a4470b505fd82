//! Where the checkout, the cache and the builds are, and how wide this machine may build.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::package::Architecture;
use crate::process;

/// Memory for each parallel compiler job: async-opcua's types take 3 GiB at their peak.
const JOB_GIB: u64 = 4;

/// The folders that every command works with.
#[derive(Debug)]
pub(crate) struct Places {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Tools and builds that outlive a checkout.
    pub(crate) cache: PathBuf,
    /// Cargo's target folder: one for all checkouts, so that a fresh clone starts warm.
    pub(crate) target: PathBuf,
}

impl Places {
    /// Finds the folders and creates those outside the checkout.
    pub(crate) fn find() -> Result<Self> {
        // `cargo run` says where xtask stands; builds may be shared by checkouts, so what was compiled in may not.
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask.parent().context("xtask stands outside a workspace")?.to_path_buf();
        let cache = cache_parent()?.join("tidegate");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| cache.join("target"), |target| root.join(target));
        for folder in [&cache, &target] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(Self { root, cache, target })
    }

    /// Waits until no other xtask uses the cache; it is free again when the file is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.cache.join("lock");
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("Waiting for another `cargo xtask` to finish");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// Forgets builds of our own crates that another checkout left in the shared target folder.
    ///
    /// Cargo tells changed sources by their age alone and takes two checkouts for one, so an older
    /// file here would pass for built.
    pub(crate) fn adopt_target(&self) -> Result<()> {
        let stamp = self.target.join("checkout");
        let here = self.root.to_string_lossy();
        if fs::read_to_string(&stamp).is_ok_and(|built| built == here) {
            return Ok(());
        }
        for profile in ["dev", "release", "dist"] {
            let clean = ["clean", "--quiet", "--workspace", "--profile", profile];
            process::run(self.cargo().args(clean))?;
        }
        if self.cross().exists() {
            let clean = ["clean", "--quiet", "--workspace", "--profile", "dist", "--target"];
            for architecture in Architecture::ALL {
                let mut cargo = self.cargo();
                cargo.env("CARGO_TARGET_DIR", self.cross());
                process::run(cargo.args(clean).arg(architecture.target()))?;
            }
        }
        fs::write(&stamp, here.as_bytes())
            .with_context(|| format!("cannot write {}", stamp.display()))
    }

    /// Returns the target folder of builds for other architectures, which come from another compiler.
    pub(crate) fn cross(&self) -> PathBuf {
        self.target.join("cross")
    }

    /// Returns Cargo as every step calls it: in the checkout, with the shared target folder.
    pub(crate) fn cargo(&self) -> std::process::Command {
        let mut cargo = process::command("cargo");
        cargo
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_BUILD_JOBS", build_jobs().to_string());
        cargo
    }
}

/// Returns how many compilers may run at once without running out of memory.
pub(crate) fn build_jobs() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let memory = [
        fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory_bytes(&text)),
        fs::read_to_string("/sys/fs/cgroup/memory.max")
            .ok()
            .and_then(|text| text.trim().parse().ok()),
    ];
    memory.into_iter().flatten().min().map_or(1, |bytes| jobs_for(cores, bytes))
}

fn jobs_for(cores: usize, memory_bytes: u64) -> usize {
    // A machine sold with 8 GiB shows a little less: round to the nearest.
    let gib = (memory_bytes + (1 << 29)) >> 30;
    let by_memory = usize::try_from(gib / JOB_GIB).unwrap_or(usize::MAX);
    by_memory.clamp(1, cores.max(1))
}

fn total_memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn cache_parent() -> Result<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| anyhow!("neither XDG_CACHE_HOME nor HOME names a folder for the cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_bounded_by_cores_and_by_memory() {
        #[rustfmt::skip]
        let cases = [
            // cores  memory                jobs
            (2,       24 << 30,             2),
            (16,      (8 << 30) - (300 << 20), 2),
            (16,      64 << 30,             16),
            (4,       1 << 30,              1),
            (0,       0,                    1),
        ];
        for (cores, memory, jobs) in cases {
            assert_eq!(jobs_for(cores, memory), jobs, "{cores} cores, {memory} bytes");
        }
    }

    #[test]
    fn total_memory_is_read_in_bytes() {
        let meminfo = "MemFree:  12 kB\nMemTotal:       24689512 kB\n";
        assert_eq!(total_memory_bytes(meminfo), Some(24_689_512 * 1024));
        assert_eq!(total_memory_bytes("MemTotal: many"), None);
    }
}
