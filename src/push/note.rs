//! The note on which set is in force, and what was done: the one durable state of pushes.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Value as Json, json};
use tidegate_model::Timestamp;

/// Most entries of what was done; older ones go.
const ENTRIES_MAX: usize = 64;
/// Most bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 1_024;

/// Which set is in force, which were before, and what was done. Set 0 are the files in the folder of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The number of the next set.
    pub next: u64,
    /// Sets that were confirmed, oldest first, the first of them 0; the last one is in force unless another is on trial.
    pub good: Vec<u64>,
    /// The set that is on trial.
    pub trial: Option<Trial>,
    /// What was done, oldest first; each has a number of its own.
    pub entries: VecDeque<Entry>,
    /// The end of a trial whose sender has perhaps not heard of it.
    pub untold: Option<Ending>,
}

/// A set on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Its number.
    pub set: u64,
    /// Who sent it.
    pub by: String,
    /// The id of the command that it came with.
    pub id: Option<String>,
    /// When that came in.
    pub at: Timestamp,
    /// When it is put back.
    pub until: Timestamp,
    /// The restart that it needs.
    pub restart: Restart,
    /// What worked when it came in.
    pub worked: Vec<String>,
}

/// Whether a set on trial needs a restart. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is taken into use as it is.
    None,
    /// The next start is the one.
    Due,
    /// A start has begun with it: the next one finds it failed.
    Begun,
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts all entries from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// What: `applied`, `confirmed`, `returned`.
    pub what: String,
    /// The set that it concerns.
    pub set: u64,
    /// The SHA-256 of that set, when it was applied.
    pub digest: Option<String>,
    /// The id of the command that brought the set.
    pub id: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// How a trial ended, for who sent the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The trial.
    pub trial: Trial,
    /// Why it was put back; `None` if it was confirmed.
    pub returned: Option<String>,
}

impl Default for Note {
    fn default() -> Self {
        Self { next: 1, good: vec![0], trial: None, entries: VecDeque::new(), untold: None }
    }
}

impl Note {
    /// Returns the set that was confirmed last.
    pub fn last_good(&self) -> u64 {
        self.good.last().copied().unwrap_or(0)
    }

    /// Returns the set in force.
    pub fn in_force(&self) -> u64 {
        self.trial.as_ref().map_or(self.last_good(), |trial| trial.set)
    }

    /// Returns the sets that are needed.
    pub(super) fn needed(&self) -> BTreeSet<u64> {
        self.good.iter().copied().chain(self.trial.as_ref().map(|trial| trial.set)).collect()
    }

    /// Begins a trial of the next set.
    pub(super) fn begin(&mut self, trial: Trial, digest: String) {
        let entry = Entry {
            number: 0,
            at: trial.at,
            by: trial.by.clone(),
            what: "applied".into(),
            set: trial.set,
            digest: Some(digest),
            id: trial.id.clone(),
            reason: None,
        };
        self.push(entry);
        self.next = trial.set + 1;
        self.trial = Some(trial);
    }

    /// Ends the trial well; so many sets before it are kept.
    pub(super) fn confirm(&mut self, by: &str, at: Timestamp, keep: usize) {
        let Some(trial) = self.trial.take() else { return };
        self.good.push(trial.set);
        // Beside the files of the folder, which stay the first, and the last one.
        while self.good.len() > keep + 2 {
            self.good.remove(1);
        }
        self.end(trial, by, at, None);
    }

    /// Ends the trial badly: the last good set is in force again.
    pub(super) fn put_back(&mut self, by: &str, at: Timestamp, reason: &str) {
        let Some(trial) = self.trial.take() else { return };
        self.end(trial, by, at, Some(reason.to_owned()));
    }

    /// Gives up the last good set for the one before it, if there is one.
    pub(super) fn go_back(&mut self, by: &str, at: Timestamp, reason: &str) {
        if self.good.len() < 2 {
            return;
        }
        if let Some(set) = self.good.pop() {
            let what = "returned".into();
            let (by, reason) = (by.to_owned(), Some(reason.to_owned()));
            self.push(Entry { number: 0, at, by, what, set, digest: None, id: None, reason });
        }
    }

    fn end(&mut self, trial: Trial, by: &str, at: Timestamp, returned: Option<String>) {
        let what = if returned.is_some() { "returned" } else { "confirmed" };
        self.push(Entry {
            number: 0,
            at,
            by: by.to_owned(),
            what: what.into(),
            set: trial.set,
            digest: None,
            id: trial.id.clone(),
            reason: returned.clone(),
        });
        self.untold = Some(Ending { trial, returned });
    }

    fn push(&mut self, mut entry: Entry) {
        entry.number = self.entries.back().map_or(1, |last| last.number + 1);
        if let Some(reason) = &mut entry.reason {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        }
        self.entries.push_back(entry);
        while self.entries.len() > ENTRIES_MAX {
            self.entries.pop_front();
        }
    }

    /// Returns the note as it is kept, and shown.
    pub fn to_json(&self) -> Json {
        json!({
            "next": self.next,
            "good": self.good,
            "trial": self.trial.as_ref().map(Trial::to_json),
            "entries": self.entries.iter().map(Entry::to_json).collect::<Vec<_>>(),
            "untold": self.untold.as_ref().map(|ending| json!({
                "trial": ending.trial.to_json(), "returned": ending.returned,
            })),
        })
    }

    /// Reads what [`to_json`](Self::to_json) made; `None` if it is something else.
    pub(super) fn from_json(kept: &Json) -> Option<Self> {
        let good: Vec<u64> = kept["good"].as_array()?.iter().filter_map(Json::as_u64).collect();
        let entries = kept["entries"].as_array()?.iter().map(Entry::from_json);
        let untold = |ending: &Json| {
            let returned = ending["returned"].as_str().map(str::to_owned);
            Some(Ending { trial: Trial::from_json(&ending["trial"])?, returned })
        };
        Some(Self {
            next: kept["next"].as_u64()?,
            good: Some(good).filter(|good| good.first() == Some(&0))?,
            trial: optional(&kept["trial"], Trial::from_json)?,
            entries: entries.collect::<Option<_>>()?,
            untold: optional(&kept["untold"], untold)?,
        })
    }
}

impl Trial {
    fn to_json(&self) -> Json {
        json!({
            "set": self.set, "by": self.by, "id": self.id,
            "at": self.at.to_string(), "until": self.until.to_string(),
            "restart": self.restart.as_str(), "worked": self.worked,
        })
    }

    fn from_json(kept: &Json) -> Option<Self> {
        let worked = kept["worked"].as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
        Some(Self {
            set: kept["set"].as_u64()?,
            by: kept["by"].as_str()?.to_owned(),
            id: kept["id"].as_str().map(str::to_owned),
            at: time(&kept["at"])?,
            until: time(&kept["until"])?,
            restart: Restart::from_word(kept["restart"].as_str()?)?,
            worked: worked.collect::<Option<_>>()?,
        })
    }
}

impl Restart {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Due => "due",
            Self::Begun => "begun",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::None, Self::Due, Self::Begun].into_iter().find(|restart| restart.as_str() == word)
    }
}

impl Entry {
    fn to_json(&self) -> Json {
        json!({
            "number": self.number, "at": self.at.to_string(), "by": self.by, "what": self.what,
            "set": self.set, "digest": self.digest, "id": self.id, "reason": self.reason,
        })
    }

    fn from_json(kept: &Json) -> Option<Self> {
        let text = |key: &str| kept[key].as_str().map(str::to_owned);
        Some(Self {
            number: kept["number"].as_u64()?,
            at: time(&kept["at"])?,
            by: text("by")?,
            what: text("what")?,
            set: kept["set"].as_u64()?,
            digest: text("digest"),
            id: text("id"),
            reason: text("reason"),
        })
    }
}

fn time(kept: &Json) -> Option<Timestamp> {
    Timestamp::parse(kept.as_str()?).ok()
}

/// Reads what may be absent; `None` if it is there and malformed.
fn optional<T>(kept: &Json, read: impl Fn(&Json) -> Option<T>) -> Option<Option<T>> {
    match kept {
        Json::Null => Some(None),
        value => read(value).map(Some),
    }
}
