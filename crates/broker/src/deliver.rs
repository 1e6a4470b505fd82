//! What is due to a connected client, and its acknowledgements.

use tidegate_model::{Qos, Timestamp};
use tidegate_store::Transaction;

use crate::{
    core::{Broker, Superseded},
    delivery::Delivery,
    persist,
    session::{Attachment, Inflight, Session, SessionKey, Stage},
};

/// With more than this in its transaction, further progress waits for the next one.
const PROGRESS_BYTES: usize = 1 << 20;
/// With more than this to be passed on, further messages wait for the next time something is taken.
const STRAY_BYTES: usize = 1 << 20;

/// Something to send to a client.
#[derive(Clone, Debug)]
pub enum Due {
    /// A PUBLISH.
    Publish {
        /// The message and how it is shown.
        delivery: Delivery,
        /// Its packet identifier, unless the quality of service is 0.
        packet_id: Option<u16>,
        /// Whether it may have been sent before.
        dup: bool,
    },
    /// A PUBREL.
    Release {
        /// The packet identifier.
        packet_id: u16,
    },
}

/// What a packet identifier of an incoming PUBLISH with quality of service 2 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundId {
    /// A message that has not been seen.
    New,
    /// A repetition of one that was taken and not yet released.
    Repeated,
}

impl Session {
    /// Whether the next repetition may go out: a client that is back may allow less than before (MQTT-3.3.4-9). A
    /// PUBREL always may.
    fn may_resend(&self, window: usize) -> bool {
        let sent = self.inflight.len() - self.resend;
        self.inflight.get(sent).is_some_and(|next| next.stage == Stage::Released || sent < window)
    }

    /// Gives a message a packet identifier, which is stored before a first send with quality of service 2.
    #[inline]
    fn put_in_flight(&mut self, delivery: &Delivery, transaction: &mut Transaction) -> u16 {
        let packet_id = self.take_packet_id();
        if let (Qos::ExactlyOnce, Some(taker), Some(position)) =
            (delivery.qos, self.taker, delivery.position)
        {
            persist::put_outbound(transaction, taker, packet_id, position, Stage::Sent);
        }
        let delivery = delivery.clone();
        self.inflight.push_back(Inflight { packet_id, stage: Stage::Sent, delivery });
        packet_id
    }

    /// Returns what a client that is back is sent again next, if it is, and whether its rights withhold a message.
    ///
    /// A message that it may not have any more is done with. Of an exchange with quality of service 2 the client may
    /// know the packet identifier, so that it ends in order, but without the message.
    fn next_resend(&mut self, transaction: &mut Transaction) -> (Option<Due>, bool) {
        let at = self.inflight.len() - self.resend;
        let Inflight { packet_id, stage, delivery } = &mut self.inflight[at];
        let packet_id = *packet_id;
        let is_denied =
            *stage == Stage::Sent && !self.rights.may_receive(&delivery.routed.message.topic);
        if is_denied && delivery.qos < Qos::ExactlyOnce {
            let qos = delivery.qos;
            self.finish(packet_id, qos);
            return (None, true);
        }
        if is_denied {
            *stage = Stage::Released;
            if let Some((taker, position)) = self.taker.zip(delivery.position) {
                persist::put_outbound(transaction, taker, packet_id, position, Stage::Released);
            }
        }
        let due = match stage {
            Stage::Sent => {
                Due::Publish { delivery: delivery.clone(), packet_id: Some(packet_id), dup: true }
            }
            Stage::Released => Due::Release { packet_id },
        };
        self.resend -= 1;
        (Some(due), is_denied)
    }
}

impl Broker {
    /// Takes up to `max` things that are due to a client, oldest first.
    ///
    /// If there is a transaction, it must be submitted, and what was taken may be sent only when it is durable (promise
    /// D7).
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn take_due(
        &mut self,
        attachment: Attachment,
        now: Timestamp,
        max: usize,
        due: &mut Vec<Due>,
    ) -> Result<Option<Transaction>, Superseded> {
        self.attached(attachment)?;
        self.catch_up(attachment.session, now);
        let session = self.attached(attachment)?;
        let link = session.link.as_mut().expect("an attached session has a link");
        link.woken = false;
        let window = usize::from(link.receive_maximum);
        let mut transaction = Transaction::new();
        let mut taken = 0;
        let mut expired = 0;
        let mut denied = 0;
        let (mut stray, mut stray_bytes) = (Vec::new(), 0);
        while taken < max && session.may_resend(window) {
            let (again, was_denied) = session.next_resend(&mut transaction);
            taken += usize::from(again.is_some());
            denied += u64::from(was_denied);
            due.extend(again);
        }
        while taken < max && session.resend == 0 && stray_bytes <= STRAY_BYTES {
            let Some(next) = session.queue.front() else { break };
            if next.qos > Qos::AtMostOnce && session.inflight.len() >= window
                || session.progress.is_far_ahead(next.position)
            {
                break;
            }
            let is_denied =
                session.unchecked > 0 && !session.rights.may_receive(&next.routed.message.topic);
            let delivery = session.pop().expect("looked at above");
            let is_expired = delivery.routed.message.is_expired(now);
            if is_denied && !is_expired && delivery.group.is_some() {
                stray_bytes += delivery.size_estimate();
                stray.push(delivery);
                continue;
            }
            if is_denied || is_expired {
                denied += u64::from(is_denied);
                expired += u64::from(is_expired && !is_denied);
                delivery.position.into_iter().for_each(|position| session.progress.done(position));
                continue;
            }
            taken += 1;
            let is_confirmed = delivery.qos > Qos::AtMostOnce;
            let packet_id =
                is_confirmed.then(|| session.put_in_flight(&delivery, &mut transaction));
            due.push(Due::Publish { delivery, packet_id, dup: false });
        }
        denied += self.pass_on_stray(attachment.session, stray, &mut transaction);
        self.counters.delivered += taken as u64;
        self.counters.expired += expired;
        if denied > 0 {
            self.counters.denied += denied;
            self.sessions[attachment.session.0].dropped += denied;
            let principal = self.sessions[attachment.session.0].principal.clone();
            (0..denied).for_each(|_| self.note_denial(&principal));
        }
        Ok((!transaction.is_empty()).then_some(transaction))
    }

    /// Returns whether something is due that the window of the client allows.
    pub fn has_due(&mut self, attachment: Attachment) -> bool {
        self.attached(attachment).is_ok_and(|session| {
            let window = session.link.as_ref().map_or(0, |link| usize::from(link.receive_maximum));
            if session.resend > 0 {
                return session.may_resend(window);
            }
            if session.queue.is_empty() {
                return !session.catching_up.is_empty();
            }
            session.queue.front().is_some_and(|next| {
                (next.qos == Qos::AtMostOnce || session.inflight.len() < window)
                    && !session.progress.is_far_ahead(next.position)
            })
        })
    }

    /// Takes a PUBACK: the message is done with.
    ///
    /// Returns whether the packet identifier was in flight with quality of service 1.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn acknowledged(
        &mut self,
        attachment: Attachment,
        packet_id: u16,
    ) -> Result<bool, Superseded> {
        Ok(self.attached(attachment)?.finish(packet_id, Qos::AtLeastOnce))
    }

    /// Takes a PUBREC: the transaction, if there is one, must be durable before the PUBREL (promise D7).
    ///
    /// Returns `None` if the packet identifier is not in flight with quality of service 2.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn received(
        &mut self,
        attachment: Attachment,
        packet_id: u16,
    ) -> Result<Option<Option<Transaction>>, Superseded> {
        let session = self.attached(attachment)?;
        let taker = session.taker;
        let Some(inflight) = session.inflight.iter_mut().find(|inflight| {
            inflight.packet_id == packet_id && inflight.delivery.qos == Qos::ExactlyOnce
        }) else {
            return Ok(None);
        };
        inflight.stage = Stage::Released;
        Ok(Some(taker.zip(inflight.delivery.position).map(|(taker, position)| {
            let mut transaction = Transaction::new();
            persist::put_outbound(&mut transaction, taker, packet_id, position, Stage::Released);
            transaction
        })))
    }

    /// Takes a PUBCOMP, or a PUBREC that refuses: the message is done with.
    ///
    /// Returns whether the packet identifier was in flight with quality of service 2.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn completed(
        &mut self,
        attachment: Attachment,
        packet_id: u16,
    ) -> Result<(bool, Option<Transaction>), Superseded> {
        let session = self.attached(attachment)?;
        let known = session.finish(packet_id, Qos::ExactlyOnce);
        let transaction = session.taker.filter(|_| known).map(|taker| {
            let mut transaction = Transaction::new();
            persist::delete_outbound(&mut transaction, taker, packet_id);
            // Together: without its packet identifier the message would be sent again as a new one.
            persist::put_progress(&mut transaction, taker, &session.progress);
            transaction
        });
        Ok((known, transaction))
    }

    /// Takes notice that a message that was due cannot be sent, as it is larger than the client takes: it is
    /// done with, as if it had been acknowledged (MQTT-3.1.2-25), and counts as dropped instead of delivered.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn unsendable(
        &mut self,
        attachment: Attachment,
        packet_id: Option<u16>,
    ) -> Result<Option<Transaction>, Superseded> {
        let transaction = match packet_id {
            Some(packet_id) if !self.acknowledged(attachment, packet_id)? => {
                self.completed(attachment, packet_id)?.1
            }
            _ => None,
        };
        self.attached(attachment)?.dropped += 1;
        self.counters.delivered = self.counters.delivered.saturating_sub(1);
        self.counters.dropped_too_large += 1;
        Ok(transaction)
    }

    /// Returns what a session has taken since the last call, to be stored lazily (promise D6).
    pub fn take_progress(&mut self, attachment: Attachment) -> Option<Transaction> {
        let session = self.attached(attachment).ok()?;
        let taker = session.taker.filter(|_| session.progress.dirty)?;
        session.progress.dirty = false;
        let mut transaction = Transaction::new();
        persist::put_progress(&mut transaction, taker, &session.progress);
        Some(transaction)
    }

    /// Returns what sessions have taken and is not stored yet, and whether that is all of it.
    ///
    /// Records may be released only behind what is stored: do it before [`first_needed`](Self::first_needed).
    pub fn take_all_progress(&mut self) -> (Option<Transaction>, bool) {
        let mut transaction = Transaction::new();
        for (_, session) in &mut self.sessions {
            if let Some(taker) = session.taker.filter(|_| session.progress.dirty) {
                if transaction.encoded_len() > PROGRESS_BYTES {
                    return (Some(transaction), false);
                }
                session.progress.dirty = false;
                persist::put_progress(&mut transaction, taker, &session.progress);
            }
        }
        ((!transaction.is_empty()).then_some(transaction), true)
    }

    /// Looks an incoming packet identifier up; the transaction, if there is one, repeats what must be durable
    /// before the PUBREC of a repetition (promise D3).
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn inbound_id(
        &mut self,
        attachment: Attachment,
        packet_id: u16,
    ) -> Result<(InboundId, Option<Transaction>), Superseded> {
        let session = self.attached(attachment)?;
        if !session.inbound_exactly_once.contains(&packet_id) {
            return Ok((InboundId::New, None));
        }
        let transaction = session.taker.map(|taker| {
            let mut transaction = Transaction::new();
            persist::put_inbound(&mut transaction, taker, packet_id);
            transaction
        });
        Ok((InboundId::Repeated, transaction))
    }

    /// Takes a PUBREL. Returns whether the packet identifier was known; the transaction, if there is one, must
    /// be durable before the PUBCOMP (promise D4). A repeated PUBREL has one too: the first may still be on its
    /// way to the disk.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn released(
        &mut self,
        attachment: Attachment,
        packet_id: u16,
    ) -> Result<(bool, Option<Transaction>), Superseded> {
        let session = self.attached(attachment)?;
        let known = session.inbound_exactly_once.remove(&packet_id);
        let transaction = session.taker.map(|taker| {
            let mut transaction = Transaction::new();
            persist::delete_inbound(&mut transaction, taker, packet_id);
            transaction
        });
        Ok((known, transaction))
    }

    pub(crate) fn remember_inbound(
        &mut self,
        key: SessionKey,
        packet_id: u16,
        transaction: &mut Transaction,
    ) {
        let session = &mut self.sessions[key.0];
        session.inbound_exactly_once.insert(packet_id);
        if let Some(taker) = session.taker {
            persist::put_inbound(transaction, taker, packet_id);
        }
    }
}
