//! When wills are published, and when they are not.

use std::time::Duration;

use tidegate_broker::Expiry;
use tidegate_model::Timestamp;

use super::{
    Reference,
    state::{Effect, State, Will, WillPhase},
};

impl Reference {
    /// A client has left a will with its connection. Returns what must be durable before the CONNACK.
    pub(crate) fn leave_will(
        &mut self,
        client: usize,
        message: u64,
        is_stored: bool,
        delay: Duration,
        token: u64,
    ) -> u64 {
        let will = Will { client, is_stored, delay, phase: WillPhase::Held };
        self.change(token, Effect::Leave { number: message, will });
        if is_stored { token } else { 0 }
    }

    fn wills_of(&self, client: usize, wanted: impl Fn(WillPhase) -> bool) -> Vec<u64> {
        let wills = self.live.wills.iter();
        wills
            .filter(|(_, will)| will.client == client && wanted(will.phase))
            .map(|(number, _)| *number)
            .collect()
    }

    fn set_phase(&mut self, number: u64, phase: WillPhase) {
        self.live.wills.get_mut(&number).expect("it exists").phase = phase;
    }

    /// The client has said good-bye: its will is forgotten.
    pub(super) fn forget_will(&mut self, client: usize, token: u64) {
        for number in self.wills_of(client, |phase| phase == WillPhase::Held) {
            self.change(token, Effect::EndWill { number });
        }
    }

    /// The connection has ended: the will is due now, or with its delay or the end of the session.
    pub(super) fn arm_will(&mut self, client: usize, expiry: Expiry, now: Timestamp) {
        for number in self.wills_of(client, |phase| phase == WillPhase::Held) {
            let delay = delay(self.live.wills[&number].delay, expiry);
            let due = now.saturating_add(delay);
            self.set_phase(
                number,
                if delay.is_zero() {
                    WillPhase::Due
                } else {
                    WillPhase::Armed { due, is_postponed: false }
                },
            );
        }
    }

    /// The client is back, or its session has ended: what waits is not published, or at once.
    pub(super) fn settle_wills(&mut self, client: usize, goes_on: bool, token: u64) {
        let waits = |phase| matches!(phase, WillPhase::Armed { is_postponed: false, .. });
        for number in self.wills_of(client, waits) {
            if goes_on {
                self.change(token, Effect::EndWill { number });
            } else {
                self.set_phase(number, WillPhase::Due);
            }
        }
    }

    pub(super) fn expect_due_wills(&mut self, now: Timestamp) {
        for will in self.live.wills.values_mut() {
            if matches!(will.phase, WillPhase::Armed { due, .. } if due <= now) {
                will.phase = WillPhase::Due;
            }
        }
    }

    /// The broker has handed out wills: exactly those that were due.
    pub(crate) fn check_due_wills(&self, handed_out: &[u64]) {
        let wills = self.live.wills.iter();
        let due: Vec<u64> = wills
            .filter(|(_, will)| will.phase == WillPhase::Due)
            .map(|(number, _)| *number)
            .collect();
        let mut handed_out = handed_out.to_vec();
        handed_out.sort_unstable();
        assert_eq!(handed_out, due, "wills that were handed out, and those that were due");
    }

    /// A will was published in the transaction `token`.
    pub(crate) fn end_will(&mut self, message: u64, token: u64) {
        self.change(token, Effect::EndWill { number: message });
    }

    /// A will found no room and is tried again.
    pub(crate) fn postpone_will(&mut self, message: u64, due: Timestamp) {
        self.set_phase(message, WillPhase::Armed { due, is_postponed: true });
    }

    /// Wills of connections that a power cut has ended wait for their delay from now on.
    pub(super) fn revive_wills(&self, state: &mut State, now: Timestamp) {
        for will in state.wills.values_mut() {
            let session = state.sessions.get(&will.client);
            let due = session.map_or(now, |session| {
                let since = session.disconnected_at.unwrap_or(now);
                since.saturating_add(delay(will.delay, session.expiry))
            });
            let is_postponed = due <= now;
            will.phase = WillPhase::Armed { due: due.max(now), is_postponed };
        }
    }
}

fn delay(delay: Duration, expiry: Expiry) -> Duration {
    match expiry {
        Expiry::AtDisconnect => Duration::ZERO,
        Expiry::After(after) => delay.min(after),
    }
}
