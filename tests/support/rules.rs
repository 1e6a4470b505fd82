//! What every case of the fault catalogue must obey beside its own expectation: its rules G2 to G7.
//!
//! G1, the ledger, is the case's own: only it knows what was acknowledged.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use super::canary::{Canary, Places};
use super::gateway::Gateway;
use super::programs;
use super::wait;

/// The default memory ceiling (rule G2), in KiB.
const CEILING: u64 = 128 << 10;
/// By how much memory may have grown when the case is over (rule G2), in KiB.
const GROWTH_MAX: u64 = 16 << 10;
/// The memory of one check of a password, in KiB.
const PASSWORD_CHECK: u64 = 19 << 10;
/// How many lines of one kind a second may bring (rule G6).
const LINES_PER_SECOND_MAX: usize = 10;

/// How the gateway was before a case.
#[derive(Debug)]
pub(crate) struct Rules {
    process: u32,
    descriptors: usize,
    resident: u64,
    growth_max: u64,
    secrets: Vec<String>,
    metrics: Option<u16>,
    canary: Option<Canary>,
}

impl Rules {
    /// Notes how the gateway is, and starts a canary. `secrets` are what must show up nowhere.
    #[track_caller]
    pub(crate) fn note(gateway: &Gateway, places: Option<&Places<'_>>, secrets: &[&str]) -> Self {
        let process = gateway.id();
        // Before the canary, whose own connections come and go.
        let descriptors = descriptors(process);
        let canary = places.map(|places| {
            let mut canary = Canary::start(places);
            // The first round trips, and those before the case, are good ones.
            canary.check();
            canary.restart();
            canary
        });
        Self {
            process,
            descriptors,
            resident: memory(process, "VmRSS"),
            growth_max: GROWTH_MAX,
            secrets: secrets.iter().map(|&secret| secret.to_owned()).collect(),
            metrics: places.and_then(|places| places.http),
            canary,
        }
    }

    /// Lets the case check passwords: the two checks that may run at once keep their memory for the next.
    pub(crate) fn with_password_checks(self) -> Self {
        Self { growth_max: GROWTH_MAX + 2 * PASSWORD_CHECK, ..self }
    }

    /// Checks that all the rules were obeyed; the case must have let go of its connections.
    #[track_caller]
    pub(crate) fn check(mut self, gateway: &Gateway) {
        if let Some(canary) = &mut self.canary {
            canary.check();
        }
        drop(self.canary.take());
        assert_eq!(gateway.id(), self.process, "G5: the same process");
        self.check_size();
        let lines = gateway.output().timed_lines();
        let panic = lines.iter().find(|(_, line)| line.contains("panicked"));
        assert_eq!(panic, None, "G5: no panic");
        check_rate(&lines);
        self.check_secrets(gateway, &lines);
    }

    fn check_size(&self) {
        let peak = memory(self.process, "VmHWM");
        assert!(peak <= CEILING, "G2: {peak} KiB at most, the ceiling is {CEILING}");
        let is_back = || {
            let now = (descriptors(self.process), memory(self.process, "VmRSS"));
            // Two more are the journal's segments: the one that is written, and one that is read.
            let fits = now.0 <= self.descriptors + 2 && now.1 <= self.resident + self.growth_max;
            fits.then_some(now)
        };
        let (was, pid) = ((self.descriptors, self.resident), self.process);
        let now = wait::within(wait::DEADLINE, is_back).unwrap_or_else(|| {
            let now = (descriptors(pid), memory(pid, "VmRSS"));
            let open = open_files(pid).join("\n");
            panic!("G2, G3: descriptors and KiB were {was:?} and are {now:?}, peak {peak}:\n{open}")
        });
        println!("descriptors and KiB were {was:?} and are {now:?}, peak {peak}");
    }

    fn check_secrets(&self, gateway: &Gateway, lines: &[(Instant, String)]) {
        let status = gateway.tidegate("status", &["--json"]);
        let text = gateway.tidegate("status", &[]);
        let metrics = self.metrics.map(|port| {
            let url = format!("http://127.0.0.1:{port}/metrics");
            programs::run(programs::find("curl"), &["-sS", &url]).stdout
        });
        let log: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        let shown =
            [log.join("\n"), status.stdout, text.stdout, metrics.unwrap_or_default()].join("\n");
        for secret in &self.secrets {
            assert!(!shown.contains(secret), "G7: a secret shows up in the log, status or metrics");
        }
    }
}

/// Checks rule G6: a peer cannot make the gateway fill its log.
#[track_caller]
fn check_rate(lines: &[(Instant, String)]) {
    let mut kinds: HashMap<String, Vec<Instant>> = HashMap::new();
    for (at, line) in lines {
        kinds.entry(kind(line)).or_default().push(*at);
    }
    for (kind, times) in kinds {
        let excess = times.windows(LINES_PER_SECOND_MAX + 1).find(|window| {
            window[LINES_PER_SECOND_MAX].duration_since(window[0]) < Duration::from_secs(1)
        });
        assert!(excess.is_none(), "G6: more than {LINES_PER_SECOND_MAX} lines a second: {kind}");
    }
}

/// Returns what a line of the log has in common with others of its kind: its text without time, numbers and fields.
fn kind(line: &str) -> String {
    let words = line.split_whitespace().skip(1).take_while(|word| !word.contains('='));
    let text: Vec<&str> = words.collect();
    text.join(" ").chars().filter(|character| !character.is_ascii_digit()).collect()
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// Returns what the descriptors of a process stand for.
fn open_files(process: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let target = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
    entries.filter_map(target).map(|path| path.display().to_string()).collect()
}

/// Returns a figure of proc(5)'s `status`, in KiB.
/// Returns a figure of the process's memory, such as `VmRSS`, in KiB.
pub(crate) fn memory(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the gateway runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let figure = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    figure.unwrap_or_else(|| panic!("no {name} in {status}"))
}
