//! The state of the broker core and what it may grow to.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use slab::Slab;
use thiserror::Error;
use tidegate_model::{ClientId, Message, Principal};
use tidegate_store::{Seq, TakerId, Transaction};

use crate::{
    access::AccessRules,
    carry::Struck,
    catch_up::CatchingUp,
    delivery::Routed,
    last_values::LastValues,
    persist,
    retained::{Retained, RetainedLimits},
    route::{Local, Subscriber, Target},
    route_cache::RouteCache,
    session::{Attachment, Session, SessionKey, SubscriptionOptions},
    shared::Groups,
    summary::BrokerCounters,
    sys::SysValues,
    tree::SubscriptionTree,
    wills::PendingWill,
};

/// Most principals whose denials are told apart; those of others count as `*`'s.
const DENIALS_MAX: usize = 4_096;

/// What the core may grow to; the defaults are those of `docs/fault-catalogue.md`, section 2.
#[derive(Clone, Debug)]
pub struct BrokerLimits {
    /// Most sessions.
    pub sessions: usize,
    /// Most sessions of one principal.
    pub sessions_per_principal: usize,
    /// Longest a session may outlive its connection.
    pub session_expiry: Duration,
    /// Most messages that wait for one session.
    pub queue_messages: usize,
    /// Most bytes that wait for one session.
    pub queue_bytes: usize,
    /// Most subscriptions of one session.
    pub filters_per_session: usize,
    /// Most retained messages.
    pub retained_messages: usize,
    /// Most retained messages of one principal.
    pub retained_per_principal: usize,
    /// Most bytes of retained messages.
    pub retained_bytes: usize,
    /// Most retained messages looked at for new subscriptions in one visit to the core; at least 1.
    pub retained_looks: usize,
    /// Most messages in flight to one client, whatever it allows.
    pub receive_maximum: u16,
    /// How often in a second one session may be taken over.
    pub takeovers_per_second: u32,
    /// Most topics whose last message is kept for those who ask later.
    pub last_values: usize,
    /// Most bytes of these messages.
    pub last_value_bytes: usize,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            sessions: 20_000,
            sessions_per_principal: 1_000,
            session_expiry: Duration::from_secs(7 * 24 * 3600),
            queue_messages: 10_000,
            queue_bytes: 16 << 20,
            filters_per_session: 1_000,
            retained_messages: 100_000,
            retained_per_principal: 10_000,
            retained_bytes: 64 << 20,
            retained_looks: 1_024,
            receive_maximum: 64,
            takeovers_per_second: 10,
            last_values: 10_000,
            last_value_bytes: 16 << 20,
        }
    }
}

/// Another connection has taken the session, or the session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the session belongs to another connection now")]
pub struct Superseded;

/// Where messages are taken for an uplink.
#[derive(Clone)]
pub struct UplinkRoute {
    /// Its number in the journal.
    pub taker: TakerId,
    /// Whether it wants a message, by its topic and the way it has come; without memory.
    pub selects: Arc<dyn Fn(&Message) -> bool + Send + Sync>,
    /// Whether it would rather have messages refused than lose old ones, and is full now.
    pub refuses: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Hears of each record that is appended for it, in order: its ordinal and the size of its body.
    pub appended: Arc<dyn Fn(u64, usize) + Send + Sync>,
}

impl fmt::Debug for UplinkRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("UplinkRoute").field(&self.taker).finish()
    }
}

/// The broker core.
#[derive(Debug)]
pub struct Broker {
    pub(crate) limits: BrokerLimits,
    pub(crate) rules: AccessRules,
    pub(crate) subscriptions: SubscriptionTree<Subscriber, SubscriptionOptions>,
    pub(crate) routes: RouteCache<(Subscriber, SubscriptionOptions)>,
    pub(crate) sessions: Slab<Box<Session>>,
    pub(crate) by_client: HashMap<(Principal, ClientId), SessionKey>,
    pub(crate) locals: Slab<Local>,
    pub(crate) groups: Groups,
    pub(crate) retained: Retained,
    pub(crate) catching_up: CatchingUp,
    pub(crate) last_values: LastValues,
    /// What the broker tells of itself.
    pub(crate) sys: SysValues,
    pub(crate) uplinks: Vec<UplinkRoute>,
    pub(crate) uplink_names: BTreeMap<String, TakerId>,
    pub(crate) last_seq: Seq,
    /// How many records each taker has been given.
    pub(crate) ordinals: HashMap<TakerId, u64>,
    pub(crate) next_taker: u32,
    pub(crate) wills: Vec<PendingWill>,
    pub(crate) next_will: u64,
    pub(crate) counters: BrokerCounters,
    /// What each principal was denied.
    pub(crate) denials: BTreeMap<Principal, u64>,
    pub(crate) scratch: Vec<Target>,
    /// Messages routed so far.
    pub(crate) routed: u64,
    /// What sessions got back so far, to be shared by those that wait for the same; empty after the start.
    pub(crate) restored: HashMap<Seq, Arc<Routed>>,
    /// Copies that do not count.
    pub(crate) struck: Vec<Struck>,
    /// What the end of the restoring makes durable.
    pub(crate) mended: Vec<Transaction>,
}

impl Broker {
    /// Makes an empty core.
    pub fn new(limits: BrokerLimits, rules: AccessRules) -> Self {
        Self {
            retained: Retained::new(RetainedLimits {
                count: limits.retained_messages,
                count_per_principal: limits.retained_per_principal,
                bytes: limits.retained_bytes,
            }),
            catching_up: CatchingUp::new(),
            last_values: LastValues::new(limits.last_values, limits.last_value_bytes),
            limits,
            rules,
            subscriptions: SubscriptionTree::default(),
            routes: RouteCache::default(),
            sessions: Slab::new(),
            by_client: HashMap::new(),
            locals: Slab::new(),
            groups: Groups::default(),
            sys: SysValues::new(),
            uplinks: Vec::new(),
            uplink_names: BTreeMap::new(),
            last_seq: Seq::ORIGIN,
            ordinals: HashMap::new(),
            next_taker: 1,
            wills: Vec::new(),
            next_will: 1,
            counters: BrokerCounters::default(),
            denials: BTreeMap::new(),
            scratch: Vec::new(),
            routed: 0,
            restored: HashMap::new(),
            struck: Vec::new(),
            mended: Vec::new(),
        }
    }

    /// Returns the access rules.
    pub fn rules(&self) -> &AccessRules {
        &self.rules
    }

    /// Returns what has been counted.
    pub fn counters(&self) -> &BrokerCounters {
        &self.counters
    }

    /// Counts something that the rules deny a principal.
    pub fn note_denial(&mut self, principal: &Principal) {
        if let Some(count) = self.denials.get_mut(principal) {
            *count += 1;
        } else if self.denials.len() < DENIALS_MAX {
            self.denials.insert(principal.clone(), 1);
        } else {
            // Foreign issuers of tokens may name as many as they like: no account is called `*`.
            *self.denials.entry(Principal::new("*").expect("it is short")).or_insert(0) += 1;
        }
    }

    /// Returns how often the rules have denied each principal a publication, a subscription, a read, a will or the
    /// delivery of a message.
    pub fn denials(&self) -> &BTreeMap<Principal, u64> {
        &self.denials
    }

    /// Returns how many records a taker has been given.
    pub fn ordinal(&self, taker: TakerId) -> u64 {
        self.ordinals.get(&taker).copied().unwrap_or(0)
    }

    /// Adds an uplink. Its `topics` are asked for every message from now on.
    pub fn add_uplink(&mut self, uplink: UplinkRoute) {
        self.uplinks.push(uplink);
    }

    /// Returns the number of the named uplink: the one it has had, or a new one.
    pub fn uplink_taker(&mut self, name: &str, transaction: &mut Transaction) -> TakerId {
        if let Some(taker) = self.uplink_names.get(name) {
            return *taker;
        }
        let taker = self.allocate_taker(transaction);
        persist::put_uplink(transaction, name, taker);
        self.uplink_names.insert(name.into(), taker);
        taker
    }

    /// Returns the number of the named uplink, if it has one.
    pub fn uplink_named(&self, name: &str) -> Option<TakerId> {
        self.uplink_names.get(name).copied()
    }

    /// Forgets the uplinks that are not among `kept`, with their records; returns their names.
    pub fn retire_uplinks(&mut self, kept: &[&str], transaction: &mut Transaction) -> Vec<String> {
        let gone: Vec<String> = self
            .uplink_names
            .keys()
            .filter(|name| !kept.contains(&name.as_str()))
            .cloned()
            .collect();
        for name in &gone {
            let taker = self.uplink_names.remove(name).expect("listed above");
            self.ordinals.remove(&taker);
            persist::delete_uplink(transaction, name);
            transaction.retire(taker).expect("a few bytes fit");
        }
        gone
    }

    /// Returns the number of the last record that was appended.
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Gives a number that no taker of this journal has had; the transaction makes that durable.
    pub fn allocate_taker(&mut self, transaction: &mut Transaction) -> TakerId {
        let taker = TakerId::new(self.next_taker);
        self.next_taker += 1;
        transaction
            .put(persist::NEXT_TAKER, &self.next_taker.to_be_bytes())
            .expect("a few bytes fit");
        taker
    }

    /// Returns the first record that some session still needs, if any.
    pub fn first_needed(&self) -> Option<Seq> {
        self.sessions
            .iter()
            .filter_map(|(_, session)| session.progress.first_needed())
            .map(|needed| needed.seq)
            .min()
    }

    pub(crate) fn attached(&mut self, attachment: Attachment) -> Result<&mut Session, Superseded> {
        self.sessions
            .get_mut(attachment.session.0)
            .map(Box::as_mut)
            .filter(|session| {
                session.link.as_ref().is_some_and(|link| link.connection == attachment.connection)
            })
            .ok_or(Superseded)
    }
}
