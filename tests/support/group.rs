//! Control groups that bound a gateway's memory (cgroups(7), both versions).

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

/// A group with a bound. Whoever enters it has to end before it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    is_first_version: bool,
}

impl MemoryGroup {
    /// Makes a group below the one of this process, or the root of them. Where this machine does not let us, that is
    /// printed, and the case is not run.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").expect("Linux");
        let own = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            (controllers == "memory").then(|| format!("/sys/fs/cgroup/memory{path}"))
        });
        let is_first_version = own.is_some();
        let own = own.unwrap_or_else(|| "/sys/fs/cgroup".to_owned());
        let folder = Path::new(&own).join(format!("tidegate-test-{}", process::id()));
        if let Err(error) = fs::create_dir(&folder) {
            eprintln!("NOT RUN: memory groups take root: {error}");
            return None;
        }
        let limit = if is_first_version { "memory.limit_in_bytes" } else { "memory.max" };
        fs::write(folder.join(limit), bytes.to_string()).expect("the group takes a bound");
        Some(Self { folder, is_first_version })
    }

    /// Returns the words to put before a program that is to run in it.
    pub(crate) fn words(&self) -> [String; 4] {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.folder.display());
        ["sh".to_owned(), "-c".to_owned(), enter, "sh".to_owned()]
    }

    /// Returns how many of its processes the kernel has ended for want of memory.
    pub(crate) fn killed(&self) -> u64 {
        let file = if self.is_first_version { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.folder.join(file)).expect("the kernel tells");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).expect("the kernel counts")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // What is left of it does no harm.
        let _ = fs::remove_dir(&self.folder);
    }
}
