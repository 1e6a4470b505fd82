//! Wills: kept with the connection, published when it ends without a word (MQTT 5.0, section 3.1.2.5).

use std::time::Duration;

use tidegate_model::{ClientId, Message, Principal, Qos, Timestamp};
use tidegate_store::Transaction;

use crate::{
    core::Broker,
    persist,
    route::{Admission, RouteRefusal, Routing, Source},
    session::{Expiry, Session, Will},
};

/// How long a will waits that finds no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A will that waits for its delay.
#[derive(Clone, Debug)]
pub(crate) struct PendingWill {
    pub(crate) due: Timestamp,
    /// Whether its time had come already: it waits for room only.
    pub(crate) is_postponed: bool,
    pub(crate) number: u64,
    pub(crate) principal: Principal,
    pub(crate) client_id: ClientId,
    pub(crate) will: Will,
}

/// A will to be published, and whose it is.
///
/// It stays stored until [`Broker::route_will`] or [`Broker::drop_will`] has its transaction durable.
#[derive(Clone, Debug)]
pub struct DueWill {
    pub(crate) number: u64,
    /// Who left it.
    pub principal: Principal,
    /// Under which name; rights may depend on it.
    pub client_id: ClientId,
    will: Will,
    now: Timestamp,
}

impl DueWill {
    /// Returns what is published.
    pub fn message(&self) -> Message {
        self.will.clone().into_message(self.now)
    }
}

impl PendingWill {
    fn at(self, now: Timestamp) -> DueWill {
        let Self { number, principal, client_id, will, .. } = self;
        DueWill { number, principal, client_id, will, now }
    }
}

impl Will {
    /// Whether it must survive the gateway's end.
    pub fn is_stored(&self) -> bool {
        self.message.qos > Qos::AtMostOnce || self.message.retain
    }
}

impl Broker {
    /// Gives a new connection's will to its session.
    pub(crate) fn set_will(
        next_number: &mut u64,
        session: &mut Session,
        will: Option<Will>,
        transaction: &mut Transaction,
    ) {
        session.will = will.map(|will| {
            let number = *next_number;
            *next_number += 1;
            if will.is_stored() {
                let (principal, client_id) = (&session.principal, &session.client_id);
                persist::put_will(transaction, number, principal, client_id, &will);
            }
            Box::new((number, will))
        });
    }

    /// Takes the will of a session whose connection has ended. It is returned if it is due, else kept for later.
    pub(crate) fn end_will(&mut self, key: usize, now: Timestamp) -> Option<DueWill> {
        let session = &mut self.sessions[key];
        let (number, will) = *session.will.take()?;
        let delay = match session.expiry {
            Expiry::AtDisconnect => Duration::ZERO,
            Expiry::After(after) => will.delay.min(after),
        };
        let pending = PendingWill {
            due: now.saturating_add(delay),
            is_postponed: false,
            number,
            principal: session.principal.clone(),
            client_id: session.client_id.clone(),
            will,
        };
        if delay.is_zero() {
            return Some(pending.at(now));
        }
        self.wills.push(pending);
        None
    }

    /// Takes the delayed wills of a client that is back.
    ///
    /// If its session goes on they are not sent; if it has ended they are due, whatever their delay
    /// (MQTT 5.0, section 3.1.3.2.2).
    pub(crate) fn settle_wills(
        &mut self,
        name: &(Principal, ClientId),
        goes_on: bool,
        now: Timestamp,
        transaction: &mut Transaction,
    ) -> Vec<DueWill> {
        let own = |pending: &mut PendingWill| {
            !pending.is_postponed && (&pending.principal, &pending.client_id) == (&name.0, &name.1)
        };
        let settled: Vec<PendingWill> = self.wills.extract_if(.., own).collect();
        if goes_on {
            settled.iter().for_each(|pending| persist::delete_will(transaction, pending.number));
            return Vec::new();
        }
        settled.into_iter().map(|pending| pending.at(now)).collect()
    }

    /// Takes the wills whose delay has passed.
    pub(crate) fn due_wills(&mut self, now: Timestamp) -> Vec<DueWill> {
        let due = self.wills.extract_if(.., |pending| pending.due <= now);
        due.map(|pending| pending.at(now)).collect()
    }

    /// Publishes a will: what was made of it and its end are one transaction.
    ///
    /// # Errors
    ///
    /// [`RouteRefusal`]; the will is as it was. Give it to [`postpone_will`](Self::postpone_will) or
    /// [`drop_will`](Self::drop_will).
    pub fn route_will(
        &mut self,
        will: &DueWill,
        messages: Vec<Message>,
        admission: Admission,
    ) -> Result<Routing, RouteRefusal> {
        let mut routing = self.route(messages, Source::Gateway, admission)?;
        if will.will.is_stored() {
            let transaction = routing.transaction.get_or_insert_default();
            persist::delete_will(transaction, will.number);
        }
        Ok(routing)
    }

    /// Keeps a will for which there is no room at the moment; the tick brings it again.
    ///
    /// Returns it if too many wait already.
    pub fn postpone_will(&mut self, will: DueWill) -> Option<DueWill> {
        if self.wills.len() >= self.limits.sessions {
            return Some(will);
        }
        let DueWill { number, principal, client_id, will, now } = will;
        let due = now.saturating_add(RETRY_AFTER);
        self.wills.push(PendingWill {
            due,
            is_postponed: true,
            number,
            principal,
            client_id,
            will,
        });
        None
    }

    /// Ends a will that is not published; it is counted.
    pub fn drop_will(&mut self, will: &DueWill) -> Transaction {
        self.counters.wills_dropped += 1;
        let mut transaction = Transaction::new();
        persist::delete_will(&mut transaction, will.number);
        transaction
    }
}
