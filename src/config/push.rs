//! `[push]`: who may send mapping files to the gateway, and how long they are on trial.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use tidegate_model::UplinkName;
use tidegate_settings::{Issue, Issues, Node, Table, TableReader, read};

use super::{load::directory_of, root::Config, uplink::UplinkConfig};

/// Who may push, and how what was pushed is tried. Without the table nobody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushConfig {
    /// Uplinks that may bring a push, if `[[access]]` gives them the right to manage as well.
    pub uplinks: Vec<UplinkName>,
    /// Whether a set from an uplink may make points writable or callable that are not.
    pub writable: bool,
    /// Whether a configuration file may be pushed, too.
    pub configuration: bool,
    /// How long a set is on trial before it is put back, unless somebody confirms it.
    pub confirm_within: Duration,
    /// How long a part or an uplink that worked before may be down during a trial.
    pub connect_within: Duration,
    /// How many sets that were confirmed before the last one are kept, to be returned to.
    pub keep: usize,
}

const CONFIRM_WITHIN_DEFAULT: Duration = Duration::from_secs(5 * 60);
const CONNECT_WITHIN_DEFAULT: Duration = Duration::from_secs(2 * 60);
const KEEP_DEFAULT: usize = 5;
const KEEP_RANGE: RangeInclusive<usize> = 1..=50;

impl PushConfig {
    /// How long a trial may be. An end is told under the id of its command, and ids are remembered for a day.
    pub const CONFIRM_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(12 * 3_600);

    pub(super) fn read(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Self> {
        let read_name =
            read::parsed("an uplink's name", "write the names of uplinks", UplinkName::new);
        let uplinks = table.list("uplinks", read_name, issues);
        let writable = table.optional_or("writable", false, read::boolean, issues);
        let configuration = table.optional_or("configuration", false, read::boolean, issues);
        let mut duration = |key, default, issues: &mut Issues| {
            table.optional_or(key, default, read::duration_within(Self::CONFIRM_RANGE), issues)
        };
        let confirm_within = duration("confirm-within", CONFIRM_WITHIN_DEFAULT, issues);
        let connect_within = duration("connect-within", CONNECT_WITHIN_DEFAULT, issues);
        let keep = table.optional_or("keep", KEEP_DEFAULT, read::integer(KEEP_RANGE), issues);
        table.finish(issues);
        Some(Self { uplinks, writable, configuration, confirm_within, connect_within, keep })
    }

    /// Notes uplinks that can bring nothing.
    pub(super) fn check(&self, table: &Node, uplinks: &[UplinkConfig], issues: &mut Issues) {
        let written = table.as_table().and_then(|table| table.value("uplinks")?.as_array());
        for (name, node) in self.uplinks.iter().zip(written.unwrap_or_default()) {
            match uplinks.iter().find(|uplink| uplink.name == *name) {
                Some(uplink) if uplink.commands.is_some() => {}
                Some(_) => {
                    let message = format!("nothing comes down the uplink `{name}`");
                    issues.push(
                        Issue::error(node.span, message)
                            .with_hint("give it `commands`, below which a push comes"),
                    );
                }
                None => {
                    let message = format!("there is no uplink `{name}`");
                    issues.push(Issue::error(node.span, message).with_hint("correct the name"));
                }
            }
        }
    }
}

/// Holds a pushed configuration to what no push can change: who the gateway is, where its data is, and who may push.
///
/// These are those of the file that the gateway was started with, which may have changed since.
pub(super) fn hold_fast(
    first: &Node,
    pushed: &Node,
    config: Option<&mut Config>,
    issues: &mut Issues,
) {
    fn under<'n>(root: &'n Node, table: &str) -> Option<&'n Table> {
        root.as_table()?.value(table)?.as_table()
    }
    for key in ["id", "data-dir"] {
        let of = |root| under(root, "gateway").and_then(|table: &Table| table.entry(key));
        let (kept, new) = (of(first), of(pushed));
        if let Some(new) = new
            && kept.map(|kept| &kept.value) != Some(&new.value)
        {
            let message = format!("a pushed configuration cannot change `{key}`");
            issues.error(
                new.value.span,
                message,
                "write it as the file has it that the gateway was started with",
            );
        }
    }
    // Whatever is wrong with it was found when that file was checked.
    let mut unheard = Issues::default();
    let push = first.as_table().and_then(|root| root.value("push"));
    let table = push.and_then(|push| TableReader::new(push, "push", &mut unheard));
    if let Some(config) = config {
        config.push = table.and_then(|table| PushConfig::read(table, &mut unheard));
    }
}

/// Returns the folder of what was pushed, if the tree of a configuration file allows pushing, whatever else is wrong
/// in it.
pub(super) fn folder_of(root: &Node, path: &Path) -> Option<PathBuf> {
    let root = root.as_table()?;
    root.value("push")?.as_table()?;
    let data_dir = root.value("gateway")?.as_table()?.value("data-dir")?.as_str()?;
    Some(directory_of(path).join(data_dir).join(crate::push::FOLDER))
}
