//! What the uplinks know of the wall clock.

use tidegate_store::Recovery;

use crate::{
    broker::BrokerHandle,
    supervise::{Conditions, Stage},
    time_trust::{Doubt, TimeTrust},
    uplink::UplinkHandle,
};

/// Waits for a clock that is in doubt to become right, among the tasks of `stage`.
pub(super) fn start(
    doubt: Option<Doubt>,
    recovery: &Recovery,
    broker: &BrokerHandle,
    conditions: &Conditions,
    stage: &mut Stage,
) -> TimeTrust {
    let state = recovery.state.iter().map(|(key, value)| (&key[..], &value[..]));
    let (last, clock) = (recovery.next_seq.previous(), broker.clock());
    let time = TimeTrust::begin(state, last, doubt.is_some(), clock, broker);
    if let Some(doubt) = doubt {
        let (watched, broker) = (time.clone(), broker.clone());
        stage.keep("clock", conditions, move |stop| {
            let (watched, doubt, broker) = (watched.clone(), doubt.clone(), broker.clone());
            async move {
                watched.watch(doubt, clock, broker, stop.clone()).await;
                // There is nothing more to do for it.
                stop.cancelled().await;
            }
        });
    }
    time
}

/// Forgets what no uplink needs to know any more.
pub(super) fn forget(time: &TimeTrust, uplinks: &[UplinkHandle], broker: &BrokerHandle) {
    let last = broker.core().last_seq();
    let needed = uplinks.iter().map(|uplink| {
        let snapshot = uplink.snapshot();
        let needs = snapshot.ledger.queued > 0 || snapshot.needed != snapshot.cursor;
        if needs { snapshot.needed.seq } else { last.next() }
    });
    time.forget_before(needed.min().unwrap_or(last.next()), broker);
}
