//! The publish loop of one connection (OPC 10000-4, section 5.14.5).
//!
//! The library's own loop acknowledges a message before anyone has stored it, never asks for a missed one
//! and stays silent after a reconnect; so requests are kept outstanding here.

mod content;
mod held;
mod missed;

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use opcua::{
    client::{Session, UARequest as _, services::Publish},
    types::{
        MonitoredItemNotification, NotificationMessage, PublishResponse, StatusCode,
        SubscriptionAcknowledgement, VariableId,
    },
};
use tidegate_adapter_api::Intake;
use tidegate_model::{AdapterName, Timestamp};
use tokio::time::{sleep, sleep_until};
use tracing::warn;

use self::{
    content::Content,
    held::{batch, is_unasked},
};
use crate::{
    command::now,
    delivery::{Deliveries, MessageKey},
    sequence::Arrival,
    services::{self, ServiceError},
    shared::Shared,
    stretches::Why,
    structures,
    table::SubscriptionId,
    value::Reader,
};

pub(crate) use self::{content::loaders, held::Held};

/// Requests outstanding at most, however many subscriptions there are.
const REQUESTS_MAX: usize = 16;
/// How long a request may wait for a message: several keep-alives of the slowest subscription. That the
/// connection is alive is watched elsewhere.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(600);
/// Failures in a row, other than those with a meaning of their own.
const FAILURES_MAX: u32 = 5;
/// The pause after such a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// Acknowledgements in one request.
const ACKNOWLEDGEMENTS_MAX: usize = 500;

/// What became of one request.
type Answer = (Vec<MessageKey>, Result<PublishResponse, ServiceError>);

/// Asks for messages and passes them on; one for each connection.
pub(crate) struct Publisher<'a> {
    name: &'a AdapterName,
    session: &'a Arc<Session>,
    shared: &'a Shared,
    intake: &'a Intake,
    deliveries: &'a mut Deliveries,
    held: &'a mut Held,
    /// Asks for the layouts that the oldest of what is held waits for.
    learning: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    outstanding: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// What the server holds at most; learned from its refusals.
    requests_max: usize,
    failures: u32,
    /// Whether it was said that messages hold what cannot be read.
    told_unreadable: bool,
}

impl<'a> Publisher<'a> {
    pub(crate) fn new(
        name: &'a AdapterName,
        session: &'a Arc<Session>,
        shared: &'a Shared,
        intake: &'a Intake,
        deliveries: &'a mut Deliveries,
        held: &'a mut Held,
    ) -> Self {
        Self {
            name,
            session,
            shared,
            intake,
            deliveries,
            held,
            learning: None,
            outstanding: FuturesUnordered::new(),
            requests_max: REQUESTS_MAX,
            failures: 0,
            told_unreadable: false,
        }
    }

    /// Runs until the session is of no more use; returns why.
    pub(crate) async fn run(mut self) -> ServiceError {
        let mut was_asking = false;
        loop {
            let asking = self.ask();
            if asking && !was_asking {
                // While nothing was asked, nothing could be heard.
                self.shared.table().listen_from(Instant::now());
            }
            was_asking = asking;
            let silent_at = self.shared.table().silent_at().filter(|_| asking);
            let silence = async {
                match silent_at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            self.start_learning();
            let learned = async {
                match &mut self.learning {
                    Some(learning) => learning.await,
                    None => std::future::pending().await,
                }
            };
            let answer = tokio::select! {
                Some(answer) = self.outstanding.next() => answer,
                () = self.deliveries.advance(self.intake) => continue,
                () = learned => {
                    self.hand_on_first();
                    continue;
                }
                () = self.shared.subscribed.notified() => continue,
                () = silence => {
                    self.give_up_silent().await;
                    continue;
                }
            };
            if let Err(error) = self.take(answer).await {
                return error;
            }
        }
    }

    /// Sends requests up to the number that should be outstanding; returns whether any is.
    fn ask(&mut self) -> bool {
        let subscriptions = self.shared.table().subscription_ids();
        let wanted = match subscriptions.len() {
            0 => 0,
            count => (count + 1).min(self.requests_max),
        };
        while self.deliveries.has_room() && self.outstanding.len() < wanted {
            let mut acknowledgements = self.deliveries.take_acknowledgements();
            // Of subscriptions that are gone the server knows no messages.
            acknowledgements.retain(|(subscription, _)| subscriptions.contains(subscription));
            if acknowledgements.len() > ACKNOWLEDGEMENTS_MAX {
                for message in acknowledgements.split_off(ACKNOWLEDGEMENTS_MAX) {
                    self.deliveries.acknowledge(message);
                }
            }
            let session = Arc::clone(self.session);
            self.outstanding.push(Box::pin(publish(session, acknowledgements)));
        }
        !self.outstanding.is_empty() && self.deliveries.has_room()
    }

    async fn take(&mut self, (acknowledgements, answer): Answer) -> Result<(), ServiceError> {
        let error = match answer {
            Ok(response) => {
                self.failures = 0;
                return self.take_response(response).await;
            }
            Err(error) => error,
        };
        for message in acknowledgements {
            self.deliveries.acknowledge(message);
        }
        match error.0 {
            StatusCode::BadTimeout => {}
            StatusCode::BadTooManyPublishRequests => {
                self.requests_max = self.outstanding.len().max(1)
            }
            StatusCode::BadNoSubscription => {
                warn!(adapter = %self.name, "Server has no subscription any more, making them anew");
                self.hand_on_held();
                self.shared.table().clear(Why::Dropped);
                self.shared.items_wanted.notify_one();
            }
            StatusCode::BadSessionIdInvalid
            | StatusCode::BadSessionClosed
            | StatusCode::BadSecureChannelIdInvalid
            | StatusCode::BadSecureChannelClosed
            | StatusCode::BadConnectionClosed
            | StatusCode::BadNotConnected => return Err(error),
            // The number of the next message, or of a keep-alive, tells that this one is missing.
            _ if error.is_too_large() => sleep(FAILURE_PAUSE).await,
            _ => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    return Err(error);
                }
                sleep(FAILURE_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn take_response(&mut self, response: PublishResponse) -> Result<(), ServiceError> {
        let (subscription, message) = (response.subscription_id, response.notification_message);
        let arrival = {
            let mut table = self.shared.table();
            // A message of a subscription that was given up: its items are monitored elsewhere.
            let Some(known) = table.subscription_mut(subscription) else { return Ok(()) };
            known.heard = Instant::now();
            let arrival = known.sequence.classify(message.sequence_number);
            if !matches!(arrival, Arrival::Gap { .. }) {
                known.alive = now();
            }
            arrival
        };
        let has_content = message.notification_data.as_ref().is_some_and(|data| !data.is_empty());
        match arrival {
            Arrival::Next if has_content => self.pass_on(subscription, message).await,
            Arrival::Next => {}
            // Between the store and the acknowledgement the server may send it again.
            Arrival::Repeated if has_content => {
                let message = (subscription, message.sequence_number);
                if !self.deliveries.is_open(message) {
                    self.deliveries.acknowledge(message);
                }
            }
            Arrival::Repeated => {}
            Arrival::Gap { given_up, missing } => {
                let lost = self.fetch(subscription, given_up, missing).await?;
                if let Some(known) = self.shared.table().subscription_mut(subscription) {
                    known.sequence.skip_to(message.sequence_number);
                    known.alive = now();
                }
                if has_content {
                    self.pass_on(subscription, message).await;
                }
                self.tell(subscription, lost).await;
            }
        }
        Ok(())
    }

    /// Hands on a message with content; it is the next of its subscription now.
    async fn pass_on(&mut self, subscription: SubscriptionId, message: NotificationMessage) {
        let number = message.sequence_number;
        let context = Arc::clone(self.shared.structures().context());
        let Content { values, unreadable, is_cut, closed } =
            Content::of(message, &context.context());
        self.note_unreadable(unreadable, is_cut);
        let overflowed = values.iter().filter(|value| value.value.status().overflow()).count();
        self.shared.counted.values_overflowed.add(overflowed as u64);
        while self.held.is_full() {
            self.start_learning();
            if let Some(learning) = &mut self.learning {
                learning.await;
            }
            self.hand_on_first();
        }
        let (arrival, message) = (now(), (subscription, number));
        if let Some(known) = self.shared.table().subscription_mut(subscription) {
            known.sequence.pass(number);
            known.alive = arrival;
        }
        let values = self.keep_back(message, arrival, values);
        self.deliveries.push(message, batch(self.shared, self.intake, arrival, values));
        if is_cut {
            // Whose values were in the rest is not known.
            self.shared.table().open_stretches(subscription, Why::Dropped);
        }
        if let Some(status) = closed {
            warn!(adapter = %self.name, %status, "Server closed a subscription, making it anew");
            self.give_up(subscription).await;
        }
    }

    /// Keeps back what needs a layout that nobody has asked for; returns the other values.
    fn keep_back(
        &mut self,
        message: MessageKey,
        arrival: Timestamp,
        values: Vec<MonitoredItemNotification>,
    ) -> Vec<MonitoredItemNotification> {
        let namespaces = self.shared.namespaces();
        let structures = self.shared.structures();
        let reader = Reader { namespaces: &namespaces, structures: &structures };
        let count = values.len();
        let others =
            self.held.keep_back(message, arrival, values, |value| is_unasked(value, reader));
        if others.len() < count {
            self.deliveries.expect_more(message);
        }
        others
    }

    /// Begins to ask for layouts, if values wait for some and nothing is asked yet.
    fn start_learning(&mut self) {
        if self.learning.is_none()
            && let Some(values) = self.held.awaited()
        {
            let (name, session, shared) = (self.name, self.session, self.shared);
            self.learning = Some(Box::pin(async move {
                let values = values.iter().map(|(value, item)| (value, Some(*item)));
                structures::learn(name, session, shared, values).await;
            }));
        }
    }

    /// Hands on the oldest of what is held: all that can be known of its layouts is.
    fn hand_on_first(&mut self) {
        self.learning = None;
        self.held.hand_on_first(self.shared, self.intake, self.deliveries);
    }

    /// Hands on all that is held, for items are about to go.
    fn hand_on_held(&mut self) {
        self.learning = None;
        self.held.hand_on(self.shared, self.intake, self.deliveries);
    }

    /// Has a subscription made anew.
    async fn give_up(&mut self, subscription: SubscriptionId) {
        self.hand_on_held();
        self.shared.rebuild(self.session, subscription).await;
    }

    /// Counts what a message held and nobody can read, and says so once for each connection.
    fn note_unreadable(&mut self, values: u64, is_cut: bool) {
        self.shared.counted.values_undecoded.add(values);
        self.shared.counted.messages_cut.add(is_cut.into());
        if (values > 0 || is_cut) && !self.told_unreadable {
            self.told_unreadable = true;
            warn!(adapter = %self.name, values, is_cut, "Values of the server break the encoding or the limits, they are told as bad");
        }
    }

    /// Makes silent subscriptions anew, if the server answers at all; if not, that is noticed elsewhere, and
    /// what the server has kept meanwhile is not thrown away.
    async fn give_up_silent(&mut self) {
        let state = services::value_of(VariableId::Server_ServerStatus_State.into());
        let answered = services::read(self.session, vec![state]).await.is_ok();
        let silent = self.shared.table().silent(Instant::now());
        self.shared.table().listen_from(Instant::now());
        for subscription in silent.into_iter().filter(|_| answered) {
            warn!(adapter = %self.name, subscription, "Subscription is silent, making it anew");
            self.give_up(subscription).await;
        }
    }
}

async fn publish(session: Arc<Session>, messages: Vec<MessageKey>) -> Answer {
    let acknowledgements = messages
        .iter()
        .map(|(subscription_id, sequence_number)| SubscriptionAcknowledgement {
            subscription_id: *subscription_id,
            sequence_number: *sequence_number,
        })
        .collect();
    let answer = Publish::new(&session)
        .acks(acknowledgements)
        .timeout(PUBLISH_TIMEOUT)
        .send(session.channel())
        .await;
    (messages, answer.map_err(ServiceError::from))
}
