//! What the system lets the process have: the memory of its control group (cgroups(7)).
//!
//! A container or a unit with `MemoryMax` below `[limits] memory-ceiling` would have the kernel end the process long before
//! it refuses anything. What is resident is not all that counts there, so a part of the group is left to the rest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tracing::warn;

/// Where the kernel shows control groups.
const GROUPS: &str = "/sys/fs/cgroup";
/// What is left to the kernel's buffers of sockets and files: one part in so many.
const REST: u64 = 4;

/// Returns the ceiling to keep: the one of the configuration, or less where the system allows less, which is told.
pub fn ceiling_within(configured: u64) -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(allowed) = allowed(&groups, Path::new(GROUPS)) else { return configured };
    let ceiling = configured.min(allowed - allowed / REST);
    if ceiling < configured {
        warn!(
            configured,
            allowed, ceiling, "The system allows less memory than [limits] memory-ceiling"
        );
    }
    ceiling
}

/// Returns the bytes that a process in these groups (`/proc/PID/cgroup`) may use; `None` if nothing says so.
fn allowed(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        if controllers.split(',').any(|name| name == "memory") {
            return first_version(&root.join("memory"), path);
        }
        (number == "0").then(|| second_version(root, path)).flatten()
    });
    limits.min()
}

/// The least of the group and those it is in, as the first version adds it up.
fn first_version(root: &Path, path: &str) -> Option<u64> {
    // Within a container the path is the one outside, and its group is mounted as the root.
    let statistics = [root.join(path), root.to_owned()]
        .into_iter()
        .find_map(|group| fs::read_to_string(group.join("memory.stat")).ok())?;
    let line = statistics.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit "));
    line?.trim().parse().ok()
}

fn second_version(root: &Path, path: &str) -> Option<u64> {
    let root = [root.join("unified"), root.to_owned()].into_iter().find(|root| root.exists())?;
    let group: PathBuf = root.join(path);
    let up = group.ancestors().take_while(|group| group.starts_with(&root));
    up.filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_12_the_least_limit_on_the_way_up_holds() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "67108864\n");
        write("a/c/memory.max", "1048576\n");
        write("memory/d/memory.stat", "cache 1\nhierarchical_memory_limit 5000\n");
        write("memory/memory.stat", "hierarchical_memory_limit 9223372036854771712\n");
        #[rustfmt::skip]
        let cases = [
            ("0::/a/b\n",                         Some(64 << 20)),
            ("0::/a/c\n",                         Some(1 << 20)),
            ("0::/elsewhere\n",                   None),
            ("0::/\n",                            None),
            ("4:memory:/d\n0::/\n",               Some(5_000)),
            ("4:cpu,memory:/host/path\n1:cpu:/d", Some(9_223_372_036_854_771_712)),
            ("",                                  None),
            ("nonsense\n0:\n",                    None),
        ];
        for (groups, expected) in cases {
            assert_eq!(allowed(groups, root), expected, "{groups:?}");
        }
    }
}
