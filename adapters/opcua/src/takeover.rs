//! What of the earlier connection goes on after a connect (OPC 10000-4, section 6.7).

use std::sync::Arc;

use opcua::client::{Session, UARequest as _, services::TransferSubscriptions};
use tidegate_model::AdapterName;
use tracing::info;

use crate::{
    link::Resumed,
    services::{self, CallLimits, ServiceError},
    shared::Shared,
    stretches::Why,
    table::SubscriptionId,
};

/// Reads what the server says about itself, and brings the table in line with what it still has.
///
/// Subscriptions that are gone leave the table with their items, which upkeep then creates anew.
pub(crate) async fn take_over(
    name: &AdapterName,
    session: &Arc<Session>,
    shared: &Shared,
    resumed: Resumed,
) -> Result<CallLimits, ServiceError> {
    let facts = services::facts(session).await?;
    let restarted = shared.swap_start(facts.start) != facts.start;
    let moved = restarted || !facts.namespaces.extends(&shared.namespaces());
    let subscriptions = shared.table().subscription_ids();
    shared.table().drop_unconfirmed();
    if moved {
        shared.structures().forget();
        shared.table().server_was_down();
    }
    if moved && !subscriptions.is_empty() {
        info!(adapter = %name, subscriptions = subscriptions.len(), "Server was started anew, and so are the subscriptions");
        shared.table().clear(Why::ServerDown);
        if resumed == Resumed::SameSession {
            services::delete_subscriptions(session, subscriptions).await?;
        }
    } else if resumed == Resumed::NewSession {
        transfer(name, session, shared, subscriptions).await?;
    }
    shared.set_namespaces(facts.namespaces);
    Ok(facts.limits)
}

/// Moves subscriptions from the session of before to this one; those that cannot be moved are given up.
async fn transfer(
    name: &AdapterName,
    session: &Session,
    shared: &Shared,
    subscriptions: Vec<SubscriptionId>,
) -> Result<(), ServiceError> {
    if subscriptions.is_empty() {
        return Ok(());
    }
    let transferred = TransferSubscriptions::new(session)
        .subscription_ids(subscriptions.clone())
        .send_initial_values(false)
        .send(session.channel())
        .await;
    let results = match transferred {
        Ok(response) => response.results.unwrap_or_default(),
        Err(error) if is_about_link(error.status()) => return Err(error.into()),
        // The server cannot, or does not let this user.
        Err(_) => Vec::new(),
    };
    let mut kept = 0_u64;
    let mut table = shared.table();
    for (number, subscription) in subscriptions.iter().enumerate() {
        match results.get(number) {
            Some(result) if result.status_code.is_good() => kept += 1,
            _ => table.drop_subscription(*subscription, Why::Network),
        }
    }
    shared.counted.subscriptions_kept.add(kept);
    info!(adapter = %name, kept, of = subscriptions.len(), "Subscriptions taken over");
    Ok(())
}

fn is_about_link(status: opcua::types::StatusCode) -> bool {
    use opcua::types::StatusCode;
    [
        StatusCode::BadTimeout,
        StatusCode::BadConnectionClosed,
        StatusCode::BadNotConnected,
        StatusCode::BadCommunicationError,
        StatusCode::BadSessionIdInvalid,
        StatusCode::BadSessionClosed,
    ]
    .contains(&status)
}
