//! Which queues the uplinks of a configuration have, and who steers between two of them.
//!
//! An uplink that lets live readings go first has two, of which one takes what comes in while the other may have a
//! backlog; a stand-in has one that takes while another uplink is away. See `docs/decisions/0028-two-queues.md`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_model::UplinkName;
use tidegate_store::{Recovery, Seq};
use tidegate_uplink::{Steerer, Steering, Turns, saved_books};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    broker::BrokerHandle,
    config::{Config, UplinkConfig},
    uplink::{Branch, Switch, UplinkHandle},
};

/// What has waited so long is a backlog, beside the age of a batch.
const LAG: Duration = Duration::from_secs(5);
/// How often it is looked who takes what comes in.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A queue with all that an uplink is.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) config: UplinkConfig,
    /// Where it is decided whether it takes what comes in.
    pub(super) branches: Vec<Branch>,
    /// Of an uplink with another queue: the switch between both, and how turns are shared out.
    pub(super) second: Option<(Arc<Switch>, Turns)>,
    /// Whether it is such another queue.
    pub(super) is_second: bool,
}

/// Two queues, and the rule by which one of them takes what comes in.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    steering: Steering,
    names: [UplinkName; 2],
    switch: Arc<Switch>,
}

/// The queues of a configuration, each behind the one whose connection it shares.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) all: Vec<Queue>,
    pub(super) pairs: Vec<Pair>,
}

impl Queues {
    /// Lists the queues. A second one stays beyond its time while something waits in it: `has_backlog` tells.
    pub(super) fn of(config: &Config, has_backlog: impl Fn(&UplinkName) -> bool) -> Self {
        let mut queues = Self::default();
        for uplink in &config.uplinks {
            queues.add(uplink, &has_backlog);
        }
        queues
    }

    fn add(&mut self, uplink: &UplinkConfig, has_backlog: impl Fn(&UplinkName) -> bool) {
        let mut branches = Vec::new();
        if let Some(stand_in) = &uplink.stand_in {
            let switch = Arc::new(Switch::default());
            let first = Branch { switch: Arc::clone(&switch), place: 0 };
            let of_first = |queue: &&mut Queue| {
                queue.config.name == stand_in.name
                    || (queue.is_second && queue.config.via.as_ref() == Some(&stand_in.name))
            };
            self.all
                .iter_mut()
                .filter(of_first)
                .for_each(|queue| queue.branches.push(first.clone()));
            branches.push(Branch { switch: Arc::clone(&switch), place: 1 });
            let (after, back_after) = (stand_in.after, stand_in.back_after);
            self.pairs.push(Pair {
                steering: Steering::StandIn { after, back_after },
                names: [stand_in.name.clone(), uplink.name.clone()],
                switch,
            });
        }
        let second = UplinkConfig::second_name(&uplink.name);
        let second = second.filter(|name| uplink.waiting.live_share.is_some() || has_backlog(name));
        let Some(second) = second else {
            let config = uplink.clone();
            self.all.push(Queue { config, branches, second: None, is_second: false });
            return;
        };
        let switch = Arc::new(Switch::default());
        let place = |place| {
            let own = Branch { switch: Arc::clone(&switch), place };
            branches.iter().cloned().chain([own]).collect()
        };
        let turns = Turns::new(uplink.waiting.live_share.unwrap_or(1.0));
        self.all.push(Queue {
            config: uplink.clone(),
            branches: place(0),
            second: Some((Arc::clone(&switch), turns)),
            is_second: false,
        });
        let names = [uplink.name.clone(), second.clone()];
        self.all.push(Queue {
            config: UplinkConfig {
                name: second,
                via: Some(uplink.name.clone()),
                commands: None,
                bridge: uplink.bridge.of_second_queue(),
                ..uplink.clone()
            },
            branches: place(1),
            second: None,
            is_second: true,
        });
        if uplink.waiting.live_share.is_some() {
            let steering = Steering::LiveFirst { lag: LAG + 2 * uplink.batch.age };
            self.pairs.push(Pair { steering, names, switch });
        }
    }
}

/// Returns whether something waits in the queue of a name, as recovery found it.
pub(super) fn has_backlog(recovery: &Recovery, broker: &BrokerHandle, name: &UplinkName) -> bool {
    let Some(taker) = broker.core().uplink_named(name.as_str()) else { return false };
    let received = recovery.positions.get(&taker).map_or(0, |position| position.ordinal);
    let pairs = recovery.state.iter().map(|(key, value)| (&**key, &**value));
    // What cannot be read is not nothing.
    saved_books(name, pairs).map_or(true, |books| books.cursor.ordinal < received || books.held > 0)
}

/// Steers between two queues for as long as the gateway runs.
struct Steered {
    pair: Pair,
    steerer: Steerer,
    handles: [UplinkHandle; 2],
}

impl Steered {
    fn look(&mut self, broker: &BrokerHandle, now: Duration) {
        let before = self.steerer.active();
        let views = [self.handles[0].view(), self.handles[1].view()];
        let active = self.steerer.look(views, now);
        if active != before {
            // Whoever routes has this lock, and finds one queue that takes.
            let core = broker.core();
            self.pair.switch.turn(active);
            drop(core);
            let (takes, rests) = (&self.pair.names[active], &self.pair.names[1 - active]);
            match self.pair.steering {
                Steering::LiveFirst { .. } => {
                    info!(queue = %takes, backlog = %rests, "Live readings go past a backlog");
                }
                Steering::StandIn { .. } => {
                    info!(uplink = %takes, instead_of = %rests, "Another uplink takes what comes in");
                }
            }
        }
    }
}

/// Sets the switches as the last run left them, before anything is routed.
pub(super) fn set(pairs: &[Pair], received: &BTreeMap<String, Seq>) {
    for pair in pairs {
        let last = |place: usize| received.get(pair.names[place].as_str()).copied();
        pair.switch.turn(pair.steering.first(usize::from(last(1) > last(0))));
    }
}

/// Steers until it is told to stop.
pub(super) async fn steer(
    pairs: Vec<Pair>,
    handles: Vec<UplinkHandle>,
    broker: BrokerHandle,
    stop: CancellationToken,
) {
    let began = Instant::now();
    let named = |name: &UplinkName| handles.iter().find(|handle| handle.name() == name).cloned();
    let steered = pairs.into_iter().filter_map(|pair| {
        let handles = [named(&pair.names[0])?, named(&pair.names[1])?];
        let steerer = Steerer::new(pair.steering, pair.switch.active(), Duration::ZERO);
        Some(Steered { steerer, pair, handles })
    });
    let mut steered: Vec<Steered> = steered.collect();
    while !steered.is_empty() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        steered.iter_mut().for_each(|steered| steered.look(&broker, began.elapsed()));
    }
}
