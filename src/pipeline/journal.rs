//! Opens the journal and gives the broker core its state back.

use std::collections::HashMap;

use bytes::Bytes;
use tidegate_broker::{Broker, BrokerLimits, SessionBacklog, access::AccessRules};
use tidegate_store::{Item, Position, Recovery, TakerId, record::MessageDecoder};
use tracing::{error, info, warn};

use super::StartError;
use crate::{
    clock::{self, Clock},
    commander::History,
    config::Config,
    exchanges::Exchanges,
    store::{self, Completion, DataDirectory, Store},
};

/// The journal and what was in it.
pub(super) struct Journal {
    pub(super) store: Store,
    pub(super) recovery: Recovery,
    pub(super) core: Broker,
    pub(super) history: History,
    pub(super) exchanges: Exchanges,
    /// It goes on where that of the run before ended.
    pub(super) clock: Clock,
    /// What the run before noted of its clocks.
    pub(super) clock_note: Option<clock::Note>,
}

/// Opens the data directory, recovers the journal and starts its writer. Whether the wall clock is known to be right says
/// `is_clock_trusted`.
pub(super) fn open(config: &Config, is_clock_trusted: bool) -> Result<Journal, StartError> {
    let directory = DataDirectory::open(&config.gateway.data_dir)?;
    let (journal, recovery) = store::open(&directory, &config.store)?;
    report(&recovery);
    let store = store::spawn("journal", directory, journal, &recovery, &config.store)
        .map_err(StartError::Thread)?;
    let mut core = Broker::new(limits(config), AccessRules::new(config.access.clone()));
    let state = || recovery.state.iter().map(|(key, value)| (&key[..], &value[..]));
    let clock_note = clock::Note::find(state());
    let clock = Clock::start();
    let clock = clock_note.map_or(clock, |note| clock.resumed(note, is_clock_trusted));
    restore(&mut core, &recovery, &store, clock)?;
    let history = History::recover(state(), clock.unset_wall());
    let segment_bytes = store::segment_bytes(&config.store);
    let exchanges = Exchanges::recover(state(), segment_bytes, clock.unset_wall());
    // Before anything is noted in the slots that this empties.
    let submit = |transaction| store.handle().submit(transaction, Completion::None);
    exchanges.forget_expired(clock.unset_wall(), submit);
    Ok(Journal { store, recovery, core, history, exchanges, clock, clock_note })
}

fn restore(
    core: &mut Broker,
    recovery: &Recovery,
    store: &Store,
    clock: Clock,
) -> Result<(), StartError> {
    let state = recovery.state.iter().map(|(key, value)| (&key[..], &value[..]));
    let ordinals = recovery.positions.iter().map(|(taker, position)| (*taker, position.ordinal));
    let (backlogs, errors) =
        core.recover(state, recovery.next_seq.previous(), ordinals, clock.steady());
    for error in errors {
        error!(%error, "An entry of the journal's state was passed over");
    }
    let backlogs: HashMap<TakerId, SessionBacklog> =
        backlogs.into_iter().map(|backlog| (backlog.taker, backlog)).collect();
    let mut positions = backlogs.iter().map(|(taker, backlog)| (*taker, backlog.after)).collect();
    let mut decoder = MessageDecoder::new();
    let mut last = None;
    let each = |taker, item| {
        let backlog = &backlogs[&taker];
        match item {
            Item::Record { seq, ordinal, body } => {
                let position = Position { seq, ordinal };
                // The takers of a record come one after another. The piece that was read is large; what waits in
                // a queue must not keep it alive.
                if last.as_ref().is_none_or(|(of, _)| *of != seq) {
                    last = Some((seq, decoder.decode(&Bytes::copy_from_slice(&body))));
                }
                let (_, decoded) = last.as_ref().expect("set above");
                match decoded {
                    Ok(message) => core.restore(backlog, position, message.clone()),
                    Err(error) => {
                        error!(%seq, %error, "A record of a session cannot be read");
                        core.skip(backlog, position);
                    }
                }
            }
            Item::Damaged { first_seq, last_seq, records, .. } => {
                error!(%first_seq, %last_seq, records, "Records of a session are damaged");
            }
        }
    };
    store.handle().catalog().sweep(&mut positions, each).map_err(StartError::Read)?;
    for transaction in core.end_restore() {
        store.handle().submit(transaction, Completion::None);
    }
    Ok(())
}

fn report(recovery: &Recovery) {
    if recovery.created {
        info!(epoch = %format!("{:016x}", recovery.epoch), "New journal");
    }
    for damage in &recovery.damages {
        warn!(%damage, "The journal is damaged; what could be read was kept");
    }
}

fn limits(config: &Config) -> BrokerLimits {
    let limits = &config.limits.mqtt;
    let bytes =
        |size: tidegate_settings::ByteSize| usize::try_from(size.get()).unwrap_or(usize::MAX);
    BrokerLimits {
        sessions: limits.max_sessions,
        sessions_per_principal: limits.max_sessions_per_principal,
        session_expiry: limits.max_session_expiry,
        queue_messages: limits.session_queue_messages,
        queue_bytes: bytes(limits.session_queue_bytes),
        filters_per_session: limits.max_filters_per_session,
        retained_messages: limits.retained_count,
        retained_per_principal: limits.retained_per_principal,
        retained_bytes: bytes(limits.retained_bytes),
        receive_maximum: limits.receive_maximum,
        takeovers_per_second: limits.max_takeovers_per_second,
        ..BrokerLimits::default()
    }
}
