//! Passing on what a member of a group cannot take any more: to those of the group that can.
//!
//! What is passed on is appended for its new taker in the transactions that end the old one's claim. If they are
//! several, they count only when all of them are durable, as with what is carried forward.

use std::{collections::VecDeque, sync::Arc};

use tidegate_model::Qos;
use tidegate_store::{Position, Seq, TRANSACTION_BYTES_MAX, Transaction, record};

use super::{Choice, GroupKey, Member, Search, Unfit};
use crate::{
    core::Broker,
    delivery::Delivery,
    parts::Parts,
    persist,
    session::{Session, SessionKey, Stage},
};

/// With this much in it a transaction is followed by another. In tests it is little, so that most take several.
const PART_BYTES: usize = if cfg!(test) { 256 } else { TRANSACTION_BYTES_MAX / 4 };
/// So much may be passed on from sessions that go on before anything new has been appended.
const CREDIT_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 32 << 20 };
/// Most stretches of records that are done beyond one that is not: they are stored with a session's progress.
const STRETCHES_MAX: usize = 1_024;

impl Broker {
    /// Passes on what waits for a session that has lost its connection, as far as others with a connection can take
    /// it. What is stored for it passes to those only for whom it is stored again.
    pub(crate) fn pass_on_waiting(&mut self, key: SessionKey, parts: &mut Parts) {
        let session = &self.sessions[key.0];
        let is_wanted = |place: &usize| !self.groups.groups[*place].present.is_empty();
        if session.queue.is_empty()
            || !session.groups.iter().any(is_wanted)
            || !self.can_pass_on(key)
        {
            return;
        }
        let session = &mut self.sessions[key.0];
        let (unchecked, queue) = (session.unchecked, std::mem::take(&mut session.queue));
        let mut allowance = self.carry_allowance(CREDIT_BYTES);
        let is_parted = self.begin_parts(queue.iter(), parts);
        let mut kept = VecDeque::new();
        let mut still_unchecked = 0;
        let mut done = Vec::new();
        let (mut stretches, mut closed) = (0, Vec::new());
        for (at, delivery) in queue.into_iter().enumerate() {
            let follows = done.last().zip(delivery.position).is_some_and(
                |(last, position): (&Position, _)| position.ordinal == last.ordinal + 1,
            );
            let group = delivery.group.filter(|group| {
                (follows || stretches < STRETCHES_MAX) && allowance > 0 && !closed.contains(group)
            });
            let Some(group) = group else {
                still_unchecked += usize::from(at < unchecked);
                kept.push_back(delivery);
                continue;
            };
            let must_store = delivery.position.is_some();
            match self.find_taker(group, &delivery, must_store, Choice::Present) {
                Ok(member) => {
                    let size = delivery.size_estimate();
                    if let Some(position) = delivery.position {
                        allowance = allowance.saturating_sub(size);
                        stretches += usize::from(!follows);
                        done.push(position);
                    }
                    self.give(&member, group, &delivery, is_parted, parts);
                }
                Err(_) => {
                    // The others of the group are no better off with the next message.
                    closed.push(group);
                    still_unchecked += usize::from(at < unchecked);
                    kept.push_back(delivery);
                }
            }
        }
        let session = &mut self.sessions[key.0];
        session.queue_bytes = kept.iter().map(Delivery::size_estimate).sum();
        session.queue = kept;
        session.unchecked = still_unchecked;
        done.iter().for_each(|position| session.progress.done(*position));
        if let Some(taker) = session.taker.filter(|_| !done.is_empty()) {
            session.progress.dirty = false;
            persist::put_progress(&mut parts.open, taker, &session.progress);
        }
        end_parts(is_parted, parts);
    }

    /// Passes on what waits for sessions without a connection, to members of their groups that have come or have got
    /// room; stops with more than `bytes_max` in `parts`.
    pub(crate) fn pass_on_all_waiting(&mut self, parts: &mut Parts, bytes_max: usize) {
        let groups = self.groups.groups.iter().filter(|(_, group)| !group.present.is_empty());
        let mut waiting: Vec<SessionKey> = groups
            .flat_map(|(_, group)| group.absent.iter().map(|member| member.session))
            .filter(|absent| !self.sessions[absent.0].queue.is_empty())
            .collect();
        waiting.sort_unstable();
        waiting.dedup();
        for absent in waiting {
            if parts.bytes() > bytes_max {
                break;
            }
            self.pass_on_waiting(absent, parts);
        }
    }

    /// Returns whether a member with a connection could take the first message of any group that waits for a session.
    fn can_pass_on(&mut self, key: SessionKey) -> bool {
        let Self { groups, sessions, limits, .. } = self;
        let session = &sessions[key.0];
        let mut asked = Vec::new();
        for delivery in &session.queue {
            let Some(group) = delivery.group.filter(|group| !asked.contains(group)) else {
                continue;
            };
            asked.push(group);
            let must_store = delivery.position.is_some();
            let message = &delivery.routed.message;
            let search = Search { message, sessions, limits, must_store };
            let found = groups.known(group).map(|group| group.choose(&search, Choice::Present));
            if found.is_some_and(|found| found.is_ok()) {
                return true;
            }
            if asked.len() >= session.groups.len() {
                break;
            }
        }
        false
    }

    /// Passes on what a session leaves behind that has ended: what was not sent, and what was sent with quality of
    /// service 1 and not acknowledged. An exchange of quality of service 2 that has begun ends with the session
    /// (MQTT-4.8.2-5).
    ///
    /// What the groups have no room for is counted as dropped. Returns whether [`end_parts`] must be called when the
    /// end of the session has been noted.
    pub(crate) fn hand_over(&mut self, session: &mut Session, parts: &mut Parts) -> bool {
        let sent = std::mem::take(&mut session.inflight);
        let is_open = |qos, stage| qos < Qos::ExactlyOnce && stage == Stage::Sent;
        let (unacknowledged, under_way): (VecDeque<_>, VecDeque<_>) =
            sent.into_iter().partition(|inflight| is_open(inflight.delivery.qos, inflight.stage));
        // Their packet identifiers are forgotten with the session.
        session.inflight = under_way;
        let queue = std::mem::take(&mut session.queue);
        let left: Vec<Delivery> = unacknowledged
            .into_iter()
            .map(|inflight| inflight.delivery)
            .chain(queue)
            .filter(|delivery| delivery.group.is_some())
            .collect();
        let is_parted = self.begin_parts(left.iter(), parts);
        for delivery in left {
            let Some(group) = delivery.group else { continue };
            match self.find_any_taker(group, &delivery) {
                Ok(member) => self.give(&member, group, &delivery, is_parted, parts),
                Err(unfit) => self.note_unfit(unfit),
            }
        }
        is_parted
    }

    /// Passes on what a member may not have any more to others of the group, and ends its own claim in the same
    /// transaction. Returns how many messages nobody may have.
    pub(crate) fn pass_on_stray(
        &mut self,
        key: SessionKey,
        stray: Vec<Delivery>,
        transaction: &mut Transaction,
    ) -> u64 {
        if stray.is_empty() {
            return 0;
        }
        let mut parts = Parts::of(std::mem::take(transaction));
        let mut withheld = 0;
        for delivery in &stray {
            let Some(group) = delivery.group else { continue };
            match self.find_any_taker(group, delivery) {
                Ok(member) => self.give(&member, group, delivery, false, &mut parts),
                Err(unfit @ Unfit::Full(_)) => self.note_unfit(unfit),
                Err(Unfit::Absent | Unfit::Denied(_)) => withheld += 1,
            }
        }
        *transaction = parts.open;
        let session = &mut self.sessions[key.0];
        let stored = || stray.iter().filter_map(|delivery| delivery.position);
        stored().for_each(|position| session.progress.done(position));
        if let Some(taker) = session.taker.filter(|_| stored().next().is_some()) {
            session.progress.dirty = false;
            persist::put_progress(transaction, taker, &session.progress);
        }
        withheld
    }

    /// Finds any member that can take a message, best one that keeps it on disk if it is there.
    fn find_any_taker(&mut self, group: GroupKey, delivery: &Delivery) -> Result<Member, Unfit> {
        let is_stored = delivery.position.is_some();
        let found = self.find_taker(group, delivery, is_stored, Choice::Anyone);
        if found.is_err() && is_stored {
            return self.find_taker(group, delivery, false, Choice::Anyone);
        }
        found
    }

    fn find_taker(
        &mut self,
        group: GroupKey,
        delivery: &Delivery,
        must_store: bool,
        who: Choice,
    ) -> Result<Member, Unfit> {
        let Self { groups, sessions, limits, .. } = self;
        let group = groups.known(group).ok_or(Unfit::Absent)?;
        let message = &delivery.routed.message;
        group.choose(&Search { message, sessions, limits, must_store }, who)
    }

    /// Gives a message to its new taker, and appends it if it waits for that one on disk.
    fn give(
        &mut self,
        member: &Member,
        group: GroupKey,
        delivery: &Delivery,
        is_parted: bool,
        parts: &mut Parts,
    ) {
        let message = &delivery.routed.message;
        let qos = member.qos_of(message);
        let taker = self.sessions[member.session.0].taker.filter(|_| qos > Qos::AtMostOnce);
        let position = taker.map(|taker| {
            let mut body = Vec::with_capacity(128);
            record::encode_message(message, &mut body).expect("it was routed before");
            if is_parted {
                parts.cut(PART_BYTES);
            }
            let position =
                Position { seq: self.last_seq.next(), ordinal: self.next_ordinal(taker) };
            parts
                .open
                .append(position.seq, &[(taker, position.ordinal)], &body)
                .expect("a part is a fraction of the limit");
            self.last_seq = position.seq;
            self.counters.passed_on_bytes += body.len() as u64;
            position
        });
        self.counters.passed_on += 1;
        let session = &mut self.sessions[member.session.0];
        if let Some(position) = position {
            session.progress.expect(position);
        }
        session.push(Delivery {
            routed: Arc::clone(&delivery.routed),
            qos,
            retain: message.retain && member.options.retain_as_published,
            subscription_ids: member.options.identifier.into_iter().collect(),
            position,
            group: Some(group),
        });
    }

    /// Announces the numbers of what is passed on, if it may take more than one transaction.
    fn begin_parts<'d>(
        &self,
        deliveries: impl Iterator<Item = &'d Delivery>,
        parts: &mut Parts,
    ) -> bool {
        let (mut count, mut bytes) = (0_u64, 0);
        for delivery in deliveries.filter(|delivery| delivery.group.is_some()) {
            count += 1;
            bytes += delivery.size_estimate();
        }
        let is_parted = bytes > PART_BYTES;
        if is_parted {
            let last = Seq::new(self.last_seq.get() + count);
            persist::put_carry(&mut parts.open, self.last_seq.next(), last);
        }
        is_parted
    }
}

/// Lets what was passed on count.
pub(crate) fn end_parts(is_parted: bool, parts: &mut Parts) {
    if is_parted {
        persist::delete_carry(&mut parts.open);
    }
}
