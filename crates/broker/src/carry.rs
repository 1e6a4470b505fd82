//! Carrying records forward: a session that does not come back must not keep old segments for ever.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tidegate_model::Qos;
use tidegate_store::{Position, Seq, TRANSACTION_BYTES_MAX, TakerId, Transaction, record};

use crate::{
    core::Broker,
    delivery::{Delivery, Routed},
    persist,
    session::Session,
};

/// With this much in it a transaction is followed by another, so that none comes near the limit of the journal.
/// In tests it is little, so that most carryings take several.
const PART_BYTES: usize = if cfg!(test) { 256 } else { TRANSACTION_BYTES_MAX / 4 };
/// Most sessions that are carried at once: what is noted of each has to fit into the last transaction.
const SESSIONS_MAX: usize = 1_000;

/// What one call of [`Broker::carry`] did.
#[derive(Debug, Default)]
pub struct Carried {
    /// Go to the journal in this order, with nothing in between; empty if nothing had to move.
    pub transactions: Vec<Transaction>,
    /// Records that were appended anew.
    pub records: u64,
    /// The size of the transactions.
    pub bytes: u64,
}

/// Copies that do not count: the carrying they belonged to did not become whole.
///
/// They are passed over whenever they are read, as long as the journal has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Struck {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
}

/// A record that waits for at least one of the sessions, and for whom: the session and the ordinal it has now.
type Waiting = (Arc<Routed>, Vec<(usize, u64)>);

impl Broker {
    /// Appends anew what sessions still need from before `horizon`, so that nothing before it is needed.
    ///
    /// All that waits for such a session moves, in its order. A record that waits for several is appended once.
    /// Sessions go first whose need is oldest, as long as what moves is below `bytes_max`, which one alone may
    /// pass. The copies count only when all of them are durable: until then the old records do.
    pub fn carry(&mut self, horizon: Seq, bytes_max: usize) -> Carried {
        let (sessions, waiting) = self.choose(horizon, bytes_max);
        if sessions.is_empty() {
            return Carried::default();
        }
        let bodies: Vec<Vec<u8>> = waiting
            .values()
            .map(|(routed, _)| {
                let mut body = Vec::with_capacity(128);
                record::encode_message(&routed.message, &mut body).expect("it was a record before");
                body
            })
            .collect();
        let holders: usize = waiting.values().map(|(_, holders)| holders.len()).sum();
        let in_parts = bodies.iter().map(|body| body.len() + RECORD_BYTES).sum::<usize>()
            + holders * HOLDER_BYTES
            > PART_BYTES;
        let mut carried = Carried { records: bodies.len() as u64, ..Carried::default() };
        let mut transaction = Transaction::new();
        if in_parts {
            let first = self.last_seq.next();
            let last = Seq::new(self.last_seq.get() + carried.records);
            persist::put_carry(&mut transaction, first, last);
        }
        let mut moved = HashMap::with_capacity(holders);
        for ((_, holders), body) in waiting.values().zip(&bodies) {
            if in_parts && transaction.encoded_len() > PART_BYTES {
                carried.transactions.push(std::mem::take(&mut transaction));
            }
            self.append_copy(holders, body, &mut moved, &mut transaction);
        }
        for key in sessions {
            move_session(key, &mut self.sessions[key], &moved, &mut transaction);
        }
        if in_parts {
            persist::delete_carry(&mut transaction);
        }
        carried.transactions.push(transaction);
        let sizes = carried.transactions.iter().map(|part| part.encoded_len() as u64);
        carried.bytes = sizes.sum();
        self.counters.carried_records += carried.records;
        self.counters.carried_bytes += carried.bytes;
        carried
    }

    /// Chooses sessions, and collects in the order of the log what waits for them.
    fn choose(&self, horizon: Seq, bytes_max: usize) -> (Vec<usize>, BTreeMap<Seq, Waiting>) {
        let mut behind: Vec<(Seq, usize)> = self
            .sessions
            .iter()
            .filter_map(|(key, session)| Some((session.progress.first_needed()?.seq, key)))
            .filter(|(needed, _)| *needed < horizon)
            .collect();
        behind.sort_unstable();
        let mut waiting: BTreeMap<Seq, Waiting> = BTreeMap::new();
        let mut sessions = Vec::new();
        let mut bytes = 0;
        for (_, key) in behind.into_iter().take(SESSIONS_MAX) {
            if bytes >= bytes_max {
                break;
            }
            for (routed, position) in self.sessions[key].stored_deliveries() {
                let (_, holders) = waiting.entry(position.seq).or_insert_with(|| {
                    bytes += RECORD_BYTES + crate::delivery::size_estimate(&routed.message);
                    (Arc::clone(routed), Vec::new())
                });
                holders.push((key, position.ordinal));
                bytes += HOLDER_BYTES;
            }
            sessions.push(key);
        }
        (sessions, waiting)
    }

    fn append_copy(
        &mut self,
        holders: &[(usize, u64)],
        body: &[u8],
        moved: &mut HashMap<(usize, u64), Position>,
        transaction: &mut Transaction,
    ) {
        let seq = self.last_seq.next();
        let takers: Vec<(TakerId, u64)> = holders
            .iter()
            .map(|&(key, old)| {
                let taker = self.sessions[key].taker.expect("what is stored is stored for a taker");
                let ordinal = self.next_ordinal(taker);
                moved.insert((key, old), Position { seq, ordinal });
                (taker, ordinal)
            })
            .collect();
        transaction.append(seq, &takers, body).expect("a part is a fraction of the limit");
        self.last_seq = seq;
    }

    /// Returns how many bytes may be carried now, or passed on within a group: over the gateway's run no more than are
    /// appended otherwise, and `credit`. Moving what stays in use for ever must not wear the disk out.
    pub fn carry_allowance(&self, credit: u64) -> usize {
        let allowed = self.counters.appended_bytes.saturating_add(credit);
        let taken = self.counters.carried_bytes.saturating_add(self.counters.passed_on_bytes);
        usize::try_from(allowed.saturating_sub(taken)).unwrap_or(usize::MAX)
    }

    /// Takes notice of a carrying that did not become whole: its copies are struck out.
    pub(crate) fn strike(&mut self, first: Seq, last: Seq) {
        self.struck.push(Struck { first, last });
        // Numbers that were announced are not given again, or new records would count as copies.
        self.last_seq = self.last_seq.max(last);
    }

    /// Returns whether the record at `seq` is a copy that does not count.
    pub(crate) fn is_struck(&self, seq: Seq) -> bool {
        self.struck.iter().any(|struck| (struck.first..=struck.last).contains(&seq))
    }

    /// Forgets the struck copies that the journal no longer has: its records start at `oldest`.
    pub fn forget_struck(&mut self, oldest: Seq) -> Option<Transaction> {
        let mut transaction = Transaction::new();
        for gone in self.struck.extract_if(.., |struck| struck.last < oldest) {
            persist::delete_struck(&mut transaction, gone);
        }
        (!transaction.is_empty()).then_some(transaction)
    }
}

/// About the most bytes that a session adds to what is carried for a record that it shares: as a taker, and as
/// an exchange under way.
const HOLDER_BYTES: usize = 40;
/// Most bytes that a record takes up beside its body and its takers.
const RECORD_BYTES: usize = 32;

/// Lets a session look for its records where the copies are.
fn move_session(
    key: usize,
    session: &mut Session,
    moved: &HashMap<(usize, u64), Position>,
    transaction: &mut Transaction,
) {
    let taker = session.taker.expect("only persistent sessions are carried");
    let deliveries = session
        .inflight
        .iter_mut()
        .map(|inflight| &mut inflight.delivery)
        .chain(&mut session.queue);
    let mut copies = Vec::new();
    for position in deliveries.filter_map(|delivery| delivery.position.as_mut()) {
        *position = moved[&(key, position.ordinal)];
        copies.push(*position);
    }
    session.progress.move_to(copies);
    for inflight in &session.inflight {
        let Delivery { qos: Qos::ExactlyOnce, position: Some(position), .. } = inflight.delivery
        else {
            continue;
        };
        persist::put_outbound(transaction, taker, inflight.packet_id, position, inflight.stage);
    }
    persist::put_progress(transaction, taker, &session.progress);
}
