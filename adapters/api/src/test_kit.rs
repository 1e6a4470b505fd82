//! A gateway under a test's control, and the checks that every adapter must pass.
//!
//! [`TestGateway`] stands behind the handles of an [`AdapterContext`]: it records what an adapter hands in
//! and answers as the test says. Only for tests; behind the feature `test-kit`.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tidegate_model::{AdapterName, Captures, CredentialId, Principal, Topic, TopicFilter};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Access, Adapter, AdapterContext, Authenticator, CommandRequest, Counters, Exchange, Health,
    HealthSource, Intake, IntakeSink, Keep, LastMessage, Login, LoginRefusal, LoginResult, Outcome,
    Point, PointId, PointSet, Publication, Reach, ReadingBatch, RecalledExchange, Receipt,
    ReceiptSender, Refusal, TopicEvents, TopicSpace, TopicSpaceBackend,
};

/// How long a test waits for what must come at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Commands an adapter may have waiting; see the table of queues in `ARCHITECTURE.md`.
const COMMANDS_MAX: usize = 64;

/// A gateway that records what it gets and answers as it is told.
#[derive(Debug, Default)]
pub struct TestGateway {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    answer: Answer,
    batches: VecDeque<ReadingBatch>,
    publications: VecDeque<(Principal, Publication)>,
    held: Vec<(ReceiptSender, Option<OwnedSemaphorePermit>)>,
    points: BTreeMap<(PointId, Captures), LastMessage>,
    topics: BTreeMap<Topic, LastMessage>,
    users: BTreeMap<String, Vec<u8>>,
    forbidden: Vec<Principal>,
    recalled: Vec<(Keep, RecalledExchange)>,
    accounts_version: u64,
    logins: u64,
    refused_busy: u64,
    not_ready: Option<String>,
}

/// What becomes of what is handed in.
#[derive(Clone, Debug)]
enum Answer {
    AtOnce(Outcome),
    Held,
}

impl Default for Answer {
    fn default() -> Self {
        Self::AtOnce(Outcome::Durable)
    }
}

/// The test's ends of a context.
#[derive(Debug)]
pub struct Handles {
    /// Replaces the points, as a reload of the mappings does.
    pub points: watch::Sender<PointSet>,
    /// Sends commands to the adapter.
    pub commands: mpsc::Sender<CommandRequest>,
    /// What the adapter counts.
    pub counters: Counters,
    /// Stops the adapter.
    pub shutdown: CancellationToken,
}

impl Handles {
    /// Returns a counter of the adapter; 0 if there is none of that name.
    pub fn count(&self, name: &str, reason: &str) -> u64 {
        let samples = self.counters.samples();
        let sample = samples.iter().find(|sample| sample.name == name && sample.reason == reason);
        sample.map_or(0, |sample| sample.value)
    }
}

impl TestGateway {
    /// Makes a gateway that takes everything as durable at once.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Makes the context of an adapter with these points.
    pub fn context(
        self: &Arc<Self>,
        adapter: &AdapterName,
        points: Vec<Point>,
        anonymous: bool,
    ) -> (AdapterContext, Handles) {
        let (points, points_receiver) = watch::channel(PointSet::new(points, 1));
        let (commands, commands_receiver) = mpsc::channel(COMMANDS_MAX);
        let (counters, shutdown) = (Counters::default(), CancellationToken::new());
        let context = AdapterContext {
            points: points_receiver,
            intake: Intake::new(adapter.clone(), self.clone()),
            commands: commands_receiver,
            reach: Reach::default(),
            topics: TopicSpace::new(self.clone()),
            access: Access::new(self.clone(), anonymous),
            health: HealthSource::new(self.clone()),
            counters: counters.clone(),
            shutdown: shutdown.clone(),
        };
        (context, Handles { points, commands, counters, shutdown })
    }

    /// Answers everything handed in from now on at once.
    pub fn answer(&self, outcome: Outcome) {
        self.state().answer = Answer::AtOnce(outcome);
    }

    /// Keeps the receipts of everything handed in from now on open, until [`release`](Self::release).
    pub fn hold(&self) {
        self.state().answer = Answer::Held;
    }

    /// Resolves all open receipts, oldest first; returns how many there were.
    pub fn release(&self, outcome: &Outcome) -> usize {
        let held = std::mem::take(&mut self.state().held);
        let count = held.len();
        for (sender, _permit) in held {
            sender.resolve(outcome.clone());
        }
        count
    }

    /// Returns the next batch of readings, waiting for it.
    ///
    /// # Panics
    ///
    /// If none comes within five seconds.
    pub async fn next_batch(&self) -> ReadingBatch {
        self.wait("a batch of readings", |state| state.batches.pop_front()).await
    }

    /// Returns the next publication, waiting for it.
    ///
    /// # Panics
    ///
    /// If none comes within five seconds.
    pub async fn next_publication(&self) -> (Principal, Publication) {
        self.wait("a publication", |state| state.publications.pop_front()).await
    }

    /// Returns how many batches wait to be taken by the test.
    pub fn batches_waiting(&self) -> usize {
        self.state().batches.len()
    }

    /// Sets the last message of a point and of its topic.
    pub fn set_last(&self, point: PointId, captures: Captures, message: LastMessage) {
        let mut state = self.state();
        state.topics.insert(message.topic.clone(), message.clone());
        state.points.insert((point, captures), message);
    }

    /// Adds an exchange that was answered before the gateway started.
    pub fn add_recalled(&self, keep: Keep, exchange: RecalledExchange) {
        self.state().recalled.push((keep, exchange));
    }

    /// Adds a principal with a password.
    pub fn add_user(&self, name: &str, password: &[u8]) {
        self.state().users.insert(name.to_owned(), password.to_vec());
    }

    /// Removes a principal's account.
    pub fn remove_user(&self, name: &str) {
        let mut state = self.state();
        state.users.remove(name);
        state.accounts_version += 1;
    }

    /// Takes every right from a principal.
    pub fn forbid(&self, principal: Principal) {
        self.state().forbidden.push(principal);
    }

    /// Returns how many logins were checked.
    pub fn logins(&self) -> u64 {
        self.state().logins
    }

    /// Returns how many batches were refused because too many receipts were open.
    pub fn refused_busy(&self) -> u64 {
        self.state().refused_busy
    }

    /// Says why the gateway is not ready, or that it is.
    pub fn set_not_ready(&self, reason: Option<&str>) {
        self.state().not_ready = reason.map(str::to_owned);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        store: impl FnOnce(&mut State),
    ) -> Receipt {
        let mut state = self.state();
        let receipt = match &state.answer {
            Answer::AtOnce(outcome) => Receipt::ready(outcome.clone()),
            Answer::Held => {
                let (sender, receipt) = Receipt::pair();
                state.held.push((sender, permit));
                receipt
            }
        };
        store(&mut state);
        self.changed.notify_waiters();
        receipt
    }

    async fn wait<T>(&self, what: &str, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        let found = timeout(PATIENCE, async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = take(&mut self.state()) {
                    return found;
                }
                changed.await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("{what} must come within {PATIENCE:?}"))
    }

    fn check(&self, principal: &Principal) -> Result<(), Refusal> {
        if self.state().forbidden.contains(principal) {
            Err(Refusal::NotAuthorized)
        } else {
            Ok(())
        }
    }
}

impl IntakeSink for TestGateway {
    fn submit(
        &self,
        _adapter: &AdapterName,
        batch: ReadingBatch,
        permit: OwnedSemaphorePermit,
    ) -> Receipt {
        if let Some(Err(refusal)) = batch.principal.as_ref().map(|principal| self.check(principal))
        {
            return Receipt::ready(Outcome::Refused(refusal));
        }
        self.take(Some(permit), |state| {
            state.recalled.extend(batch.exchange.clone().map(recalled));
            state.batches.push_back(batch);
        })
    }

    fn refuse_busy(&self, _adapter: &AdapterName, _batch: &ReadingBatch) -> Refusal {
        self.state().refused_busy += 1;
        Refusal::Busy { retry_after: Duration::from_secs(1) }
    }

    fn last(
        &self,
        principal: &Principal,
        _generation: u64,
        point: PointId,
        captures: &Captures,
    ) -> Result<Option<LastMessage>, Refusal> {
        self.check(principal)?;
        Ok(self.state().points.get(&(point, captures.clone())).cloned())
    }

    fn recall(&self, keep: Keep) -> Vec<RecalledExchange> {
        let state = self.state();
        let kept = state.recalled.iter().filter(|(kept, _)| *kept == keep);
        kept.map(|(_, exchange)| exchange.clone()).collect()
    }
}

/// What is recalled of an exchange at once.
fn recalled(exchange: Exchange) -> (Keep, RecalledExchange) {
    let Exchange { keep, sender, id, answer, lifetime } = exchange;
    (keep, RecalledExchange { sender, id, answer, remaining: lifetime })
}

impl TopicSpaceBackend for TestGateway {
    fn publish(&self, principal: &Principal, publication: Publication) -> Receipt {
        if let Err(refusal) = self.check(principal) {
            return Receipt::ready(Outcome::Refused(refusal));
        }
        self.take(None, |state| state.publications.push_back((principal.clone(), publication)))
    }

    fn last(&self, principal: &Principal, topic: &Topic) -> Result<Option<LastMessage>, Refusal> {
        self.check(principal)?;
        Ok(self.state().topics.get(topic).cloned())
    }

    fn list(
        &self,
        principal: &Principal,
        filter: &TopicFilter,
        after: Option<&Topic>,
        limit: usize,
    ) -> Result<Vec<LastMessage>, Refusal> {
        self.check(principal)?;
        let state = self.state();
        let behind = |topic: &Topic| after.is_none_or(|after| topic > after);
        let topics = state.topics.values();
        let found =
            topics.filter(|message| behind(&message.topic) && filter.matches(&message.topic));
        Ok(found.take(limit).cloned().collect())
    }

    fn subscribe(
        &self,
        principal: &Principal,
        _filter: &TopicFilter,
        capacity: usize,
    ) -> Result<TopicEvents, Refusal> {
        self.check(principal)?;
        Ok(mpsc::channel(capacity).1)
    }
}

impl Authenticator for TestGateway {
    fn login<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
        _from: IpAddr,
    ) -> Pin<Box<dyn Future<Output = LoginResult> + Send + 'a>> {
        let mut state = self.state();
        state.logins += 1;
        let known = state.users.get(name).is_some_and(|known| known == password);
        let principal = Principal::new(name).ok().filter(|_| known);
        let login = principal.map(|principal| Login::new(principal, CredentialId::default()));
        Box::pin(std::future::ready(login.ok_or(LoginRefusal::BadCredentials)))
    }

    fn version(&self) -> u64 {
        self.state().accounts_version
    }
}

impl Health for TestGateway {
    fn not_ready(&self) -> Option<String> {
        self.state().not_ready.clone()
    }

    fn metrics(&self) -> String {
        "# TYPE tidegate_test counter\ntidegate_test_total 1\n# EOF\n".into()
    }

    fn status(&self, _manager: &Principal) -> Option<String> {
        Some("{}".into())
    }
}

/// Checks that a run ends within one second of the cancellation, and that the next one does, too.
///
/// # Panics
///
/// If the adapter breaks its contract.
pub async fn stops_and_starts_again<A: Adapter>(adapter: &mut A, points: Vec<Point>) {
    let gateway = TestGateway::new();
    for round in 1..=2 {
        let (mut context, handles) = gateway.context(adapter.name(), points.clone(), true);
        let shutdown = handles.shutdown.clone();
        let stop = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            shutdown.cancel();
        };
        let run = async {
            let result = adapter.run(&mut context).await;
            assert!(shutdown.is_cancelled(), "round {round} ended by itself: {result:?}");
            assert!(result.is_ok(), "round {round}: {result:?}");
        };
        let both = async { tokio::join!(run, stop) };
        let ended = timeout(Duration::from_millis(1_050), both).await;
        assert!(ended.is_ok(), "round {round} did not end within a second of its cancellation");
    }
}
