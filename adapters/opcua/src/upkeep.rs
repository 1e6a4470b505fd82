//! Keeps what is monitored in line with mappings and address space.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use opcua::{
    client::{Session, UARequest as _, services::CreateSubscription},
    types::StatusCode,
};
use tidegate_adapter_api::PointSet;
use tidegate_model::{AdapterName, NodeAddress};
use tokio::{sync::watch, time::sleep_until};
use tracing::{info, warn};

use crate::{
    browse::{self, Found},
    command::now,
    items::{self, CallFailed},
    plan::{ServerPoints, Wanted},
    sequence::Sequence,
    services::{self, CallLimits, ServiceError},
    shared::Shared,
    stretches::Why,
    table::{Changes, Subscription, SubscriptionId},
};

/// The publishing interval of items whose mapping leaves the rate to the server.
const PUBLISHING_DEFAULT: Duration = Duration::from_secs(1);
/// Publishing intervals that are asked for; slower items are sampled slowly and published in time.
const PUBLISHING: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long a subscription may be silent before the server says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the server keeps a subscription that nobody asks.
const LIFETIME: Duration = Duration::from_secs(120);
/// What a keep-alive may be late.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(5);
/// Values in one message.
const VALUES_PER_MESSAGE: u32 = 2_000;
/// When what failed as a whole is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Brings monitored items in line with what mappings want; one for each connection.
pub(crate) struct Upkeep<'a> {
    pub(crate) name: &'a AdapterName,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) shared: &'a Shared,
    pub(crate) limits: CallLimits,
    pub(crate) rebrowse: Duration,
}

impl Upkeep<'_> {
    /// Runs until the connection is of no more use; returns why.
    pub(crate) async fn run(&self, points: &mut watch::Receiver<PointSet>) -> ServiceError {
        let mut found: Vec<NodeAddress> = Vec::new();
        let mut search = true;
        let mut next_search = Instant::now();
        let mut reported = None;
        loop {
            let wanted = ServerPoints::new(&points.borrow_and_update(), self.name);
            // What is known already goes on at once; a search takes its time.
            found.retain(|node| wanted.wants(node));
            let mut settled = self.bring_in_line(&wanted, &found).await;
            if search {
                next_search = Instant::now() + self.rebrowse;
                self.shared.structures().retry();
                if let Err(error) = self.search(&wanted, &mut found).await {
                    return error;
                }
                settled = self.bring_in_line(&wanted, &found).await;
                self.report(&mut reported);
            }
            let retry = if settled { next_search } else { next_search.min(Instant::now() + RETRY) };
            search = tokio::select! {
                Ok(()) = points.changed() => true,
                () = self.shared.items_wanted.notified() => false,
                () = sleep_until(retry.into()) => {
                    let due = Instant::now() >= next_search;
                    if due {
                        self.shared.table().retry_refused();
                    }
                    due
                }
            };
        }
    }

    /// Looks for the nodes of patterns; a node that is no longer there is forgotten only if all was seen.
    ///
    /// # Errors
    ///
    /// Only if the namespaces moved: nothing that is monitored can be trusted then.
    async fn search(
        &self,
        wanted: &ServerPoints,
        found: &mut Vec<NodeAddress>,
    ) -> Result<(), ServiceError> {
        match services::facts(self.session).await {
            Ok(facts) if facts.namespaces.extends(&self.shared.namespaces()) => {
                self.shared.set_namespaces(facts.namespaces);
            }
            Ok(_) => return Err(ServiceError(StatusCode::BadInvalidState)),
            Err(error) => {
                warn!(adapter = %self.name, %error, "Namespaces could not be read");
                return Ok(());
            }
        }
        if !wanted.has_patterns() {
            return Ok(());
        }
        let namespaces = self.shared.namespaces();
        let searched =
            browse::find(self.session, &namespaces, self.limits, |node| wanted.wants(node)).await;
        match searched {
            Ok(Found { variables, complete: true }) => *found = variables,
            Ok(Found { variables, complete: false }) => {
                warn!(adapter = %self.name, "Not all of the address space could be browsed");
                found.extend(variables);
                found.sort();
                found.dedup();
            }
            Err(error) => warn!(adapter = %self.name, %error, "Browsing failed"),
        }
        Ok(())
    }

    /// Creates and deletes monitored items; returns whether nothing is left to do.
    async fn bring_in_line(&self, wanted: &ServerPoints, found: &[NodeAddress]) -> bool {
        let plan = wanted.plan(found);
        let Changes { create, delete } = self.shared.table().adopt(plan, wanted.generation());
        let mut settled = true;
        for (subscription, items) in delete {
            let deleted =
                services::delete_items(self.session, subscription, &items, self.limits).await;
            if let Err(error) = deleted {
                // The items are out of the table: what they still send is left out.
                warn!(adapter = %self.name, %error, "Monitored items could not be deleted");
            }
        }
        let mut by_rate: BTreeMap<Duration, VecDeque<(NodeAddress, Wanted)>> = BTreeMap::new();
        for (node, wanted) in create {
            by_rate.entry(rate(&wanted)).or_default().push_back((node, wanted));
        }
        for (rate, nodes) in by_rate {
            if let Err(error) = self.monitor(rate, nodes).await {
                warn!(adapter = %self.name, %error, "Nodes could not be monitored, trying again");
                settled = false;
            }
        }
        settled
    }

    async fn monitor(
        &self,
        rate: Duration,
        mut nodes: VecDeque<(NodeAddress, Wanted)>,
    ) -> Result<(), ServiceError> {
        let mut per_call = self.limits.items;
        while !nodes.is_empty() {
            let (subscription, room) = self.subscription(rate).await?;
            let count = nodes.len().min(per_call).min(room);
            let chunk: Vec<_> = nodes.drain(..count).collect();
            let Err(CallFailed { error, nodes: failed }) =
                items::create(self.session, self.shared, subscription, chunk).await
            else {
                continue;
            };
            if error.is_too_much() && per_call > 1 {
                per_call /= 2;
                nodes.extend(failed);
                continue;
            }
            if error.0 == StatusCode::BadSubscriptionIdInvalid {
                self.shared.table().drop_subscription(subscription, Why::Dropped);
            }
            return Err(error);
        }
        Ok(())
    }

    /// Returns a subscription for items of the given rate and how many it can take; makes one if need be.
    async fn subscription(&self, rate: Duration) -> Result<(SubscriptionId, usize), ServiceError> {
        if let Some(existing) = self.shared.table().subscription_with_room(rate) {
            return Ok(existing);
        }
        let keep_alives = periods(KEEP_ALIVE, rate);
        let made = CreateSubscription::new(self.session)
            .publishing_interval(rate)
            .max_keep_alive_count(keep_alives)
            .max_lifetime_count(periods(LIFETIME, rate).max(3 * keep_alives))
            .max_notifications_per_publish(VALUES_PER_MESSAGE)
            .publishing_enabled(true)
            .send(self.session.channel())
            .await;
        let granted = match made.map_err(ServiceError::from) {
            Ok(granted) => granted,
            Err(error) if error.0 == StatusCode::BadTooManySubscriptions => {
                let shared = self.shared.table().fastest_subscription();
                return shared.map(|id| (id, self.limits.items)).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let interval = Duration::try_from_secs_f64(granted.revised_publishing_interval / 1_000.0)
            .map_or(rate, |interval| {
                interval.clamp(Duration::from_millis(1), Duration::from_secs(3_600))
            });
        let silence =
            interval.saturating_mul(granted.revised_max_keep_alive_count.clamp(1, 10_000) + 1);
        let subscription = Subscription {
            rate,
            silence_max: silence + KEEP_ALIVE_MARGIN,
            sequence: Sequence::new(),
            heard: Instant::now(),
            alive: now(),
        };
        self.shared.table().add_subscription(granted.subscription_id, subscription);
        self.shared.subscribed.notify_one();
        self.shared
            .table()
            .subscription_with_room(rate)
            .ok_or(ServiceError(StatusCode::BadInvalidState))
    }

    /// Says once in each interval that nodes are refused, and what is monitored when that changed.
    fn report(&self, reported: &mut Option<usize>) {
        let table = self.shared.table();
        let (monitored, refused) = table.counts();
        let changed = reported.replace(monitored) != Some(monitored);
        match table.first_refused() {
            Some((node, status)) => warn!(
                adapter = %self.name, monitored, refused, %node, %status,
                "Server refused nodes, the first of them is named"
            ),
            None if changed => info!(adapter = %self.name, monitored, "Nodes monitored"),
            None => {}
        }
    }
}

/// Returns the publishing interval for an item.
fn rate(wanted: &Wanted) -> Duration {
    wanted.sampling.unwrap_or(PUBLISHING_DEFAULT).clamp(PUBLISHING.0, PUBLISHING.1)
}

/// Returns how many intervals of `rate` last at least `time`.
fn periods(time: Duration, rate: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(rate.as_millis().max(1))).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use tidegate_adapter_api::PointId;
    use tidegate_model::Captures;

    use super::*;

    #[test]
    fn items_are_published_at_their_rate_within_bounds() {
        let sampled = |sampling| {
            rate(&Wanted {
                point: PointId(1),
                captures: Captures::none(),
                unit: None,
                sampling,
                deadband: None,
            })
        };
        #[rustfmt::skip]
        let cases = [
            (None,                              1_000),
            (Some(Duration::from_millis(250)),  250),
            (Some(Duration::ZERO),              50),
            (Some(Duration::from_secs(3_600)),  5_000),
        ];
        for (sampling, expected) in cases {
            assert_eq!(sampled(sampling).as_millis(), expected, "{sampling:?}");
        }
    }

    #[test]
    fn counts_cover_the_time() {
        assert_eq!(periods(KEEP_ALIVE, Duration::from_secs(1)), 10);
        assert_eq!(periods(KEEP_ALIVE, Duration::from_millis(300)), 34);
        assert_eq!(periods(KEEP_ALIVE, Duration::from_secs(60)), 1);
    }
}
