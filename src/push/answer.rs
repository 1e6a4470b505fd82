//! Who asks, and what is answered.

use serde_json::{Value as Json, json};
use tidegate_model::{OutcomeKind, Principal, Timestamp, UplinkName};

use super::{Entry, Note, PushedSet, Report, desk::Surroundings, report::Trust};

/// Who asks. Complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Somebody on this machine who may open the control socket.
    Local {
        /// The user's number.
        uid: u32,
    },
    /// The far side of an uplink.
    Uplink(UplinkName),
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it ended: accepted is what is on trial.
    pub kind: OutcomeKind,
    /// Why it was refused.
    pub reason: Option<String>,
    /// What there is to tell.
    pub value: Json,
    /// The same for people, where that is more.
    pub text: String,
}

/// Where a request comes from.
pub(super) struct Origin {
    pub(super) by: String,
    pub(super) trust: Trust,
    pub(super) id: Option<String>,
    pub(super) at: Timestamp,
    /// Whether ids are kept by the note alone.
    pub(super) keeps_ids: bool,
}

impl Answer {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        let reason = Some(reason.into());
        Self { kind: OutcomeKind::Refused, reason, value: Json::Null, text: String::new() }
    }

    pub(super) fn new(kind: OutcomeKind, value: Json) -> Self {
        Self { kind, reason: None, value, text: String::new() }
    }

    /// Returns it as the control socket tells it.
    pub fn to_json(&self) -> Json {
        json!({
            "outcome": self.kind.as_str(), "reason": self.reason, "value": self.value, "text": self.text,
        })
    }
}

impl Origin {
    pub(super) fn of(sender: &Sender, id: Option<&str>, around: &Surroundings) -> Self {
        Self {
            by: match sender {
                Sender::Local { uid } => format!("local:{uid}"),
                Sender::Uplink(name) => Principal::uplink(name).to_string(),
            },
            trust: match sender {
                Sender::Uplink(_) if around.settings.writable => Trust::Mappings,
                Sender::Uplink(_) => Trust::NoNewCommands,
                Sender::Local { .. } => Trust::Full,
            },
            id: id.map(str::to_owned),
            at: around.broker.clock().wall(),
            keeps_ids: matches!(sender, Sender::Local { .. }),
        }
    }
}

/// Returns what became of a set that came before under the same id, if one did.
pub(super) fn repeated(note: &Note, set: &PushedSet, origin: &Origin) -> Option<Answer> {
    let id = origin.id.as_deref().filter(|_| origin.keeps_ids)?;
    let of_id = |entry: &&Entry| entry.id.as_deref() == Some(id);
    let mut applied = note.entries.iter().filter(|entry| entry.what == "applied");
    let first = applied.find(|entry| of_id(entry) && entry.by == origin.by)?;
    if first.digest.as_deref() != Some(&set.digest()) {
        return Some(Answer::refused("the id was used for another set"));
    }
    let last = note.entries.iter().rfind(|entry| of_id(entry) && entry.set == first.set)?;
    let kind = match last.what.as_str() {
        "applied" => OutcomeKind::Accepted,
        "confirmed" => OutcomeKind::Confirmed,
        _ => OutcomeKind::Refused,
    };
    let value = json!({ "set": last.set, "repeated": true });
    Some(Answer { reason: last.reason.clone(), ..Answer::new(kind, value) })
}

pub(super) fn told(kind: OutcomeKind, report: &Report, reason: Option<String>) -> Answer {
    let value = json!({ "report": report.to_json() });
    Answer { kind, reason, value, text: report.text().to_owned() }
}
