//! Sessions and their connections: beginning, takeover, end, wills.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use thiserror::Error;
use tidegate_model::{ClientId, CredentialId, Principal, Timestamp};
use tidegate_store::Transaction;

use crate::{
    access::Rights,
    core::{Broker, Superseded},
    parts::Parts,
    persist,
    session::{Attachment, ConnectionId, Expiry, Link, Session, SessionKey, Wake, Will},
    shared::end_parts,
    wills::DueWill,
};

/// What a client asks for when it connects.
pub struct ConnectRequest {
    /// Who it is.
    pub principal: Principal,
    /// By which credential it has shown that.
    pub credential: CredentialId,
    /// Its client identifier; sessions belong to a principal and a client identifier together.
    pub client_id: ClientId,
    /// Whether an earlier session ends first.
    pub clean_start: bool,
    /// How long the session outlives the connection; capped by the limits.
    pub expiry: Expiry,
    /// What to publish when the connection ends without a word.
    pub will: Option<Will>,
    /// Most messages in flight that the client allows.
    pub receive_maximum: u16,
    /// Names the connection.
    pub connection: ConnectionId,
    /// Calls the connection when something is due.
    pub wake: Arc<dyn Wake>,
}

/// A session with its connection.
#[derive(Debug)]
pub struct ConnectOutcome {
    /// What the connection shows from now on.
    pub attachment: Attachment,
    /// Whether subscriptions, queue and state of an earlier session are there (promise D10).
    pub session_present: bool,
    /// How long the session will outlive the connection, after the cap.
    pub expiry: Expiry,
    /// Go to the journal in this order, and must be durable before the CONNACK (promises D9 and D11).
    pub transactions: Vec<Transaction>,
    /// What a connection that had to give way leaves behind.
    pub wills: Vec<DueWill>,
}

/// Longest client identifier that a session can be stored under, in bytes.
const CLIENT_ID_BYTES_MAX: usize = 1_024;
/// The time in which takeovers are counted.
const TAKEOVER_WINDOW: Duration = Duration::from_secs(1);
/// With more than this in its transaction, a tick lets no further session end.
const TICK_BYTES: usize = 1 << 20;

/// Why a client gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConnectRefusal {
    /// There are as many sessions as there may be, in all or of the principal.
    #[error("the quota of sessions is used up")]
    QuotaExceeded,
    /// The client identifier is longer than 1 024 bytes.
    #[error("the client identifier is longer than {CLIENT_ID_BYTES_MAX} bytes")]
    ClientIdTooLong,
    /// The session goes from connection to connection too often.
    #[error("the session is taken over too often")]
    TakeoverRate,
    /// The will may not be published by the principal.
    #[error("not authorized to publish the will")]
    WillNotAuthorized,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The client said good-bye; the will is forgotten.
    Normal {
        /// A new expiry, if the client named one.
        expiry: Option<Expiry>,
    },
    /// Anything else; the will is published.
    Abnormal,
}

/// What has come due with time.
#[derive(Debug, Default)]
pub struct Tick {
    /// Wills to publish.
    pub wills: Vec<DueWill>,
    /// Go to the journal in this order, with nothing in between.
    pub transactions: Vec<Transaction>,
}

impl Broker {
    /// Gives a connection its session: a new one, or the one it had.
    ///
    /// A connection that holds the session is woken and finds itself superseded.
    ///
    /// # Errors
    ///
    /// [`ConnectRefusal`]; nothing has changed.
    pub fn connect(
        &mut self,
        request: ConnectRequest,
        now: Timestamp,
    ) -> Result<ConnectOutcome, ConnectRefusal> {
        if request.client_id.as_str().len() > CLIENT_ID_BYTES_MAX {
            return Err(ConnectRefusal::ClientIdTooLong);
        }
        let rights = self.rules.rights(&request.principal, Some(&request.client_id));
        if request.will.as_ref().is_some_and(|will| !rights.may_publish(&will.message.topic)) {
            self.note_denial(&request.principal);
            return Err(ConnectRefusal::WillNotAuthorized);
        }
        let name = (request.principal.clone(), request.client_id.clone());
        let existing = self.by_client.get(&name).copied();
        match existing {
            Some(key) => self.check_takeover(key, now)?,
            None => self.check_quota(&request.principal)?,
        }
        let mut parts = Parts::default();
        let mut wills = Vec::new();
        // They go on counting when the session begins anew.
        let takeovers = existing.map(|key| self.sessions[key.0].takeovers).unwrap_or_default();
        if let Some(key) = existing {
            wills.extend(self.unlink(key, now, &mut parts.open));
        }
        let present =
            existing.filter(|key| !request.clean_start && !self.sessions[key.0].is_expired(now));
        wills.extend(self.settle_wills(&name, present.is_some(), now, &mut parts.open));
        if let Some(key) = existing.filter(|_| present.is_none()) {
            self.forget(key, &mut parts);
        }
        let key = present.unwrap_or_else(|| {
            let key = SessionKey(self.sessions.insert(Box::new(Session::new(
                name.0.clone(),
                name.1.clone(),
                rights.clone(),
            ))));
            self.sessions[key.0].takeovers = takeovers;
            self.by_client.insert(name, key);
            key
        });
        let expiry = self.link(key, request, rights, &mut parts.open);
        let attachment = Attachment {
            session: key,
            connection: self.sessions[key.0].link.as_ref().expect("linked above").connection,
        };
        Ok(ConnectOutcome {
            attachment,
            session_present: present.is_some(),
            expiry,
            transactions: parts.into_transactions(),
            wills,
        })
    }

    fn check_quota(&mut self, principal: &Principal) -> Result<(), ConnectRefusal> {
        let own = || self.sessions.iter().filter(|(_, session)| session.principal == *principal);
        let is_full = self.sessions.len() >= self.limits.sessions
            // Counting is for the rare case: it starts only when the principal could be over its share.
            || self.sessions.len() >= self.limits.sessions_per_principal
                && own().count() >= self.limits.sessions_per_principal;
        if is_full {
            self.counters.sessions_refused += 1;
            return Err(ConnectRefusal::QuotaExceeded);
        }
        Ok(())
    }

    /// Two clients of one name that always come back must not keep the gateway busy with it.
    fn check_takeover(&mut self, key: SessionKey, now: Timestamp) -> Result<(), ConnectRefusal> {
        let session = &mut self.sessions[key.0];
        if session.link.is_none() {
            return Ok(());
        }
        if now.saturating_since(session.takeovers.0) >= TAKEOVER_WINDOW {
            session.takeovers = (now, 0);
        }
        if session.takeovers.1 >= self.limits.takeovers_per_second {
            self.counters.takeovers_refused += 1;
            return Err(ConnectRefusal::TakeoverRate);
        }
        session.takeovers.1 += 1;
        Ok(())
    }

    /// Puts a connection on a session and notes what must survive.
    fn link(
        &mut self,
        key: SessionKey,
        request: ConnectRequest,
        rights: Arc<Rights>,
        transaction: &mut Transaction,
    ) -> Expiry {
        let expiry = match request.expiry {
            Expiry::After(after) if !after.is_zero() => {
                Expiry::After(after.min(self.limits.session_expiry))
            }
            _ => Expiry::AtDisconnect,
        };
        let persistent = expiry != Expiry::AtDisconnect;
        if persistent && self.sessions[key.0].taker.is_none() {
            let taker = self.allocate_taker(transaction);
            self.sessions[key.0].taker = Some(taker);
        }
        let receive_maximum = request.receive_maximum.clamp(1, self.limits.receive_maximum);
        let session = &mut self.sessions[key.0];
        session.link = Some(Link {
            connection: request.connection,
            credential: request.credential,
            wake: request.wake,
            receive_maximum,
            woken: false,
        });
        session.rights = rights;
        session.expiry = expiry;
        session.disconnected_at = None;
        session.resend = session.inflight.len();
        if session.taker.is_some() {
            persist::put_session(transaction, session);
        }
        Self::set_will(&mut self.next_will, session, request.will, transaction);
        self.note_presence(key);
        expiry
    }

    /// Ends a connection. Returns wills that are due at once.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection; there is nothing to do then.
    pub fn disconnect(
        &mut self,
        attachment: Attachment,
        how: Disconnect,
        now: Timestamp,
    ) -> Result<Tick, Superseded> {
        let session = self.attached(attachment)?;
        let mut parts = Parts::default();
        if let Disconnect::Normal { expiry } = how {
            if let Some(Expiry::After(after)) = expiry
                && session.expiry != Expiry::AtDisconnect
            {
                session.expiry = Expiry::After(after);
            }
            if expiry == Some(Expiry::AtDisconnect) {
                session.expiry = Expiry::AtDisconnect;
            }
            if let Some((number, will)) = session.will.take().map(|will| *will)
                && will.is_stored()
            {
                persist::delete_will(&mut parts.open, number);
            }
        }
        let cap = self.limits.session_expiry;
        let session = &mut self.sessions[attachment.session.0];
        if let Expiry::After(after) = session.expiry {
            session.expiry = Expiry::After(after.min(cap));
        }
        let wills: Vec<DueWill> =
            self.unlink(attachment.session, now, &mut parts.open).into_iter().collect();
        self.settle(attachment.session, &mut parts);
        Ok(Tick { wills, transactions: parts.into_transactions() })
    }

    /// Takes the connection off a session. Its will is returned if it is due, else kept for later.
    fn unlink(
        &mut self,
        key: SessionKey,
        now: Timestamp,
        transaction: &mut Transaction,
    ) -> Option<DueWill> {
        let session = &mut self.sessions[key.0];
        let link = session.link.take()?;
        link.wake.wake();
        session.disconnected_at = Some(now);
        if session.taker.is_some() {
            persist::put_session(transaction, session);
        }
        // They are sent at most once, and to nobody now.
        session.catching_up = Vec::new();
        // The SUBSCRIBE will not be answered.
        session.storing = VecDeque::new();
        self.catching_up.remove(&key);
        self.note_presence(key);
        self.end_will(key.0, now)
    }

    /// Ends a session that has lost its connection, or lets others take what waits for it.
    fn settle(&mut self, key: SessionKey, parts: &mut Parts) {
        if self.sessions[key.0].expiry == Expiry::AtDisconnect {
            self.forget(key, parts);
        } else {
            self.pass_on_waiting(key, parts);
        }
    }

    /// Ends a session for good.
    fn forget(&mut self, key: SessionKey, parts: &mut Parts) {
        let subscriptions = std::mem::take(&mut self.sessions[key.0].subscriptions);
        for filter in subscriptions.keys() {
            self.strike_off(key, filter);
        }
        self.catching_up.remove(&key);
        let mut session = self.sessions.remove(key.0);
        session.subscriptions = subscriptions;
        self.by_client.remove(&(session.principal.clone(), session.client_id.clone()));
        let is_parted = self.hand_over(&mut session, parts);
        if let Some(taker) = session.taker {
            self.ordinals.remove(&taker);
            persist::delete_session(&mut parts.open, taker, &session);
        }
        end_parts(is_parted, parts);
    }

    /// Ends sessions, retained messages and the waiting of wills whose time has come, and passes on what waits for
    /// members of groups that are not there. Call it about once a second.
    pub fn tick(&mut self, now: Timestamp) -> Tick {
        self.remove_gone_locals();
        let mut parts = Parts::default();
        let mut wills = Vec::new();
        let expired: Vec<SessionKey> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_expired(now))
            .map(|(index, _)| SessionKey(index))
            .collect();
        for key in expired {
            // What does not fit into one transaction waits for the next tick.
            if parts.bytes() > TICK_BYTES {
                break;
            }
            let session = &self.sessions[key.0];
            let name = (session.principal.clone(), session.client_id.clone());
            wills.extend(self.settle_wills(&name, false, now, &mut parts.open));
            self.forget(key, &mut parts);
        }
        self.pass_on_all_waiting(&mut parts, TICK_BYTES);
        wills.extend(self.due_wills(now));
        while parts.bytes() <= TICK_BYTES
            && let Some(topic) = self.retained.take_expired(now)
        {
            persist::delete_retained(&mut parts.open, &topic);
        }
        Tick { wills, transactions: parts.into_transactions() }
    }

    /// Takes the connections off the sessions whose principal, or credential, `keeps` does not know any more. Nothing
    /// more from them is published, wills included; nor are wills that wait and whose principal it does not know: it
    /// is asked about those without a credential. A session that outlives its connection waits for its expiry.
    pub fn expel(
        &mut self,
        keeps: impl Fn(&Principal, Option<CredentialId>) -> bool,
        now: Timestamp,
    ) -> Vec<Transaction> {
        let strangers: Vec<SessionKey> = self
            .sessions
            .iter()
            .filter(|(_, session)| {
                let credential = session.link.as_ref().map(|link| link.credential);
                credential.is_some() && !keeps(&session.principal, credential)
            })
            .map(|(index, _)| SessionKey(index))
            .collect();
        let mut parts = Parts::default();
        for key in strangers {
            if let Some((number, _)) = self.sessions[key.0].will.take().map(|will| *will) {
                persist::delete_will(&mut parts.open, number);
            }
            self.unlink(key, now, &mut parts.open);
            self.settle(key, &mut parts);
        }
        for pending in self.wills.extract_if(.., |pending| !keeps(&pending.principal, None)) {
            persist::delete_will(&mut parts.open, pending.number);
        }
        parts.into_transactions()
    }

    /// Replaces the access rules; sessions feel it with their next message, also with those that wait for them.
    pub fn set_rules(&mut self, rules: crate::access::AccessRules) {
        self.rules = rules;
        for (_, session) in &mut self.sessions {
            let rights = self.rules.rights(&session.principal, Some(&session.client_id));
            if rights != session.rights {
                session.rights = rights;
                session.unchecked = session.queue.len();
            }
        }
        for (_, local) in &mut self.locals {
            if let Some(principal) = &local.principal {
                local.rights = self.rules.rights(principal, None);
            }
        }
    }

    /// Returns whether a client has a session, with or without a connection.
    pub fn has_session(&self, principal: &Principal, client_id: &ClientId) -> bool {
        self.by_client.contains_key(&(principal.clone(), client_id.clone()))
    }

    /// Returns as whom the session acts.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn principal(&mut self, attachment: Attachment) -> Result<&Principal, Superseded> {
        self.attached(attachment).map(|session| &session.principal)
    }

    /// Returns what the session's principal may do.
    ///
    /// # Errors
    ///
    /// [`Superseded`] if the session has gone to another connection.
    pub fn rights(&mut self, attachment: Attachment) -> Result<&Arc<Rights>, Superseded> {
        self.attached(attachment).map(|session| &session.rights)
    }
}

impl Attachment {
    /// Returns the session.
    pub fn session(self) -> SessionKey {
        self.session
    }

    /// Returns the connection.
    pub fn connection(self) -> ConnectionId {
        self.connection
    }
}
