//! How the journal keeps the ids of commands, and what became of them.

use tidegate_model::{
    CommandId, CommandKind, CommandOutcome, OutcomeKind, Principal, Status, Timestamp, Topic, json,
};
use tidegate_store::Transaction;

use super::{Noted, REASON_BYTES_MAX, VALUE_BYTES_MAX};

/// Keys of command ids in the journal's state begin with this.
pub(super) const KEY: &[u8] = b"ci";
/// The first byte after the time of a command that has not ended.
const PENDING: u8 = 16;
/// The same for those that have, by how they ended.
const ENDED: [(u8, OutcomeKind); 5] = [
    (17, OutcomeKind::Accepted),
    (18, OutcomeKind::Confirmed),
    (19, OutcomeKind::Refused),
    (20, OutcomeKind::Expired),
    (21, OutcomeKind::Busy),
];
const WRITE: u8 = 0;
const CALL: u8 = 1;

/// Returns a change without effect: once it is durable, so is every id that was noted before.
pub(crate) fn barrier() -> Transaction {
    let mut transaction = Transaction::new();
    // No principal has a name of this length.
    transaction.delete(&[KEY, &[u8::MAX; 2]].concat()).expect("a few bytes");
    transaction
}

/// Returns what makes the id of a command durable, before the command is carried out.
pub(crate) fn pending(noted: &Noted) -> Transaction {
    entry(noted, &begun(noted, PENDING))
}

/// Returns what makes the outcome of a command durable.
pub(crate) fn finished(noted: &Noted, outcome: &CommandOutcome) -> Transaction {
    let ended = ENDED.iter().find(|(_, kind)| *kind == outcome.kind);
    let mut value = begun(noted, ended.expect("every kind has a code").0);
    value.extend_from_slice(&outcome.status.map_or(0, Status::code).to_be_bytes());
    let reason = outcome.reason.as_deref().unwrap_or("");
    put_text(&reason[..reason.floor_char_boundary(REASON_BYTES_MAX)], &mut value);
    if let Some(returned) = &outcome.value {
        let mut text = Vec::new();
        json::write_value(returned, &mut text);
        if text.len() <= VALUE_BYTES_MAX {
            value.extend_from_slice(&text);
        }
    }
    entry(noted, &value)
}

/// Returns what all values begin with.
fn begun(noted: &Noted, state: u8) -> Vec<u8> {
    let mut value = noted.at.as_unix_micros().to_be_bytes().to_vec();
    value.push(state);
    value.push(match noted.kind {
        CommandKind::Write => WRITE,
        CommandKind::Call => CALL,
    });
    put_text(noted.target.as_str(), &mut value);
    value
}

fn put_text(text: &str, value: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("topics and reasons are shorter than 64 KiB");
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(text.as_bytes());
}

fn entry(noted: &Noted, value: &[u8]) -> Transaction {
    let mut transaction = Transaction::new();
    transaction
        .put(&key(&noted.principal, &noted.id), value)
        .expect("names, topics and reasons are shorter than what the journal takes");
    transaction
}

pub(super) fn key(principal: &Principal, id: &CommandId) -> Vec<u8> {
    let name = principal.as_str().as_bytes();
    let length = u16::try_from(name.len()).expect("a principal has at most 256 bytes");
    [KEY, &length.to_be_bytes(), name, id.as_str().as_bytes()].concat()
}

fn read_key(key: &[u8]) -> Option<(Principal, CommandId)> {
    let (length, rest) = key.strip_prefix(KEY)?.split_first_chunk::<2>()?;
    let (name, id) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some((Principal::new(text(name)?).ok()?, CommandId::new(text(id)?).ok()?))
}

/// Reads an entry: the command, and how it ended if it has.
pub(super) fn read(key: &[u8], value: &[u8]) -> Option<(Noted, Option<CommandOutcome>)> {
    let (principal, id) = read_key(key)?;
    let (at, rest) = value.split_first_chunk::<8>()?;
    let at = Timestamp::from_unix_micros(i64::from_be_bytes(*at));
    let (&[state, kind], rest) = rest.split_first_chunk::<2>()?;
    let kind = match kind {
        WRITE => CommandKind::Write,
        CALL => CommandKind::Call,
        _ => return None,
    };
    let (target, rest) = read_text(rest)?;
    let target = Topic::new(std::str::from_utf8(target).ok()?).ok()?;
    let noted = Noted { principal, id, at, kind, target };
    if state == PENDING {
        return Some((noted, None));
    }
    let &(_, kind) = ENDED.iter().find(|(code, _)| *code == state)?;
    let (status, rest) = rest.split_first_chunk::<4>()?;
    let status = u32::from_be_bytes(*status);
    let (reason, returned) = read_text(rest)?;
    let outcome = CommandOutcome {
        kind,
        reason: (!reason.is_empty()).then(|| String::from_utf8_lossy(reason).into_owned()),
        status: (status != 0).then(|| Status::from_code(status)),
        value: if returned.is_empty() { None } else { json::parse_value(returned).ok() },
    };
    Some((noted, Some(outcome)))
}

fn read_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}
