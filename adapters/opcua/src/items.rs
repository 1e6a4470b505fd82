//! Creating monitored items, with the deadband in the server where it keeps one.

use std::{sync::Arc, time::Duration};

use opcua::{
    client::{Session, UARequest as _, services::CreateMonitoredItems},
    types::{
        DataChangeFilter, DataChangeTrigger, DeadbandType, ExtensionObject,
        MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, StatusCode,
        TimestampsToReturn,
    },
};
use tidegate_model::NodeAddress;

use crate::{
    deadband::Deadband,
    plan::Wanted,
    services::{self, ServiceError},
    shared::Shared,
    table::{ClientHandle, Item, SubscriptionId},
};

/// Values the server keeps for an item between two messages, and at most.
const QUEUE: (u32, u32) = (10, 100);

/// Creates the items of one call. Refused nodes are noted in the table; they never stop the others.
///
/// # Errors
///
/// A call failed as a whole; its nodes are given back.
pub(crate) async fn create(
    session: &Arc<Session>,
    shared: &Shared,
    subscription: SubscriptionId,
    nodes: Vec<(NodeAddress, Wanted)>,
) -> Result<(), CallFailed> {
    let namespaces = shared.namespaces();
    let rate = shared.table().subscription_mut(subscription).map(|subscription| subscription.rate);
    let Some(rate) = rate else {
        return Err(CallFailed {
            error: ServiceError(StatusCode::BadSubscriptionIdInvalid),
            nodes,
        });
    };
    let mut asked = Vec::with_capacity(nodes.len());
    {
        let mut table = shared.table();
        for (node, wanted) in nodes {
            let Ok(node_id) = namespaces.node_id(&node) else {
                shared.counted.nodes_refused.increment();
                table.refuse(node, StatusCode::BadNodeIdUnknown);
                continue;
            };
            let request = request(node_id, &wanted, rate);
            let handle = table.insert(Item {
                node,
                wanted,
                subscription,
                monitored: None,
                deadband: None,
                heard: None,
            });
            asked.push((handle, with_handle(request, handle)));
        }
    }
    let without_filter = send(session, shared, subscription, asked, Filters::InServer).await?;
    send(session, shared, subscription, without_filter, Filters::InGateway).await?;
    Ok(())
}

/// A call that created nothing.
#[derive(Debug)]
pub(crate) struct CallFailed {
    /// Why.
    pub(crate) error: ServiceError,
    /// The nodes it was about.
    pub(crate) nodes: Vec<(NodeAddress, Wanted)>,
}

/// Who keeps deadbands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filters {
    InServer,
    InGateway,
}

type Asked = Vec<(ClientHandle, MonitoredItemCreateRequest)>;

/// Sends one call and takes its results; returns what is to be asked again without a filter.
async fn send(
    session: &Arc<Session>,
    shared: &Shared,
    subscription: SubscriptionId,
    asked: Asked,
    filters: Filters,
) -> Result<Asked, CallFailed> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let requests = asked.iter().map(|(_, request)| request.clone()).collect();
    let answered = CreateMonitoredItems::new(subscription, session)
        .timestamps_to_return(TimestampsToReturn::Both)
        .items_to_create(requests)
        .send(session.channel())
        .await;
    let mut again = Vec::new();
    let mut table = shared.table();
    let results = match answered {
        Ok(answered) => answered.results,
        Err(error) => {
            let items = asked.iter().filter_map(|(handle, _)| table.remove(*handle));
            let nodes = items.map(|item| (item.node, item.wanted)).collect();
            return Err(CallFailed { error: error.into(), nodes });
        }
    };
    for ((handle, request), result) in asked.into_iter().zip(results) {
        let status = result.result.status_code;
        // An item that is gone went with its subscription, here and on the server.
        let Some(item) = table.item_mut(handle) else { continue };
        if status.is_good() {
            item.monitored = Some(result.result.monitored_item_id);
        } else if filters == Filters::InServer && is_about_filter(status) {
            item.deadband = item.wanted.deadband.map(Deadband::new);
            shared.counted.deadbands_kept_here.increment();
            again.push((handle, without_filter(request)));
        } else if let Some(item) = table.remove(handle) {
            shared.counted.nodes_refused.increment();
            table.refuse(item.node, status);
        }
    }
    Ok(again)
}

/// Whether the server refused the deadband and may take the node without it.
fn is_about_filter(status: StatusCode) -> bool {
    [
        StatusCode::BadFilterNotAllowed,
        StatusCode::BadMonitoredItemFilterUnsupported,
        StatusCode::BadMonitoredItemFilterInvalid,
        StatusCode::BadDeadbandFilterInvalid,
    ]
    .contains(&status)
}

fn request(node: NodeId, wanted: &Wanted, rate: Duration) -> MonitoredItemCreateRequest {
    // -1 asks for the publishing interval (OPC 10000-4, section 5.13.1.2).
    let sampling_interval =
        wanted.sampling.map_or(-1.0, |sampling| sampling.as_secs_f64() * 1_000.0);
    MonitoredItemCreateRequest {
        item_to_monitor: services::value_of(node),
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: 0,
            sampling_interval,
            filter: wanted.deadband.map_or_else(ExtensionObject::null, filter),
            queue_size: queue(wanted.sampling, rate),
            discard_oldest: true,
        },
    }
}

fn filter(deadband: f64) -> ExtensionObject {
    ExtensionObject::from_message(DataChangeFilter {
        trigger: DataChangeTrigger::StatusValue,
        deadband_type: DeadbandType::Absolute as u32,
        deadband_value: deadband,
    })
}

/// Returns how many values the server is to keep: what one publishing interval brings, twice.
fn queue(sampling: Option<Duration>, rate: Duration) -> u32 {
    let Some(sampling) = sampling.filter(|sampling| !sampling.is_zero()) else { return QUEUE.0 };
    let values = rate.as_micros().div_ceil(sampling.as_micros()).saturating_mul(2);
    u32::try_from(values).unwrap_or(QUEUE.1).clamp(QUEUE.0, QUEUE.1)
}

fn with_handle(
    mut request: MonitoredItemCreateRequest,
    handle: ClientHandle,
) -> MonitoredItemCreateRequest {
    request.requested_parameters.client_handle = handle;
    request
}

fn without_filter(mut request: MonitoredItemCreateRequest) -> MonitoredItemCreateRequest {
    request.requested_parameters.filter = ExtensionObject::null();
    request
}

#[cfg(test)]
mod tests {
    use tidegate_adapter_api::PointId;
    use tidegate_model::Captures;

    use super::*;

    fn wanted(sampling: Option<Duration>, deadband: Option<f64>) -> Wanted {
        Wanted { point: PointId(1), captures: Captures::none(), unit: None, sampling, deadband }
    }

    #[test]
    fn main_12_sampling_and_deadband_are_asked_of_the_server() {
        let rate = Duration::from_millis(250);
        let asked =
            request(NodeId::new(2, "a"), &wanted(Some(rate), Some(0.5)), rate).requested_parameters;
        assert!((asked.sampling_interval - 250.0).abs() < f64::EPSILON);
        let filter = asked.filter.inner_as::<DataChangeFilter>().unwrap();
        assert_eq!((filter.deadband_type, filter.deadband_value), (1, 0.5));
        assert!(asked.discard_oldest);

        let asked = request(NodeId::new(2, "a"), &wanted(None, None), rate);
        assert!((asked.requested_parameters.sampling_interval + 1.0).abs() < f64::EPSILON);
        assert!(asked.requested_parameters.filter.is_null());
        let request = request(NodeId::new(2, "a"), &wanted(None, Some(0.5)), rate);
        assert!(without_filter(request).requested_parameters.filter.is_null());
    }

    #[test]
    fn queues_hold_what_an_interval_brings() {
        let second = Duration::from_secs(1);
        #[rustfmt::skip]
        let cases = [
            (None,                              10),
            (Some(Duration::ZERO),              10),
            (Some(second),                      10),
            (Some(Duration::from_millis(50)),   40),
            (Some(Duration::from_millis(1)),    100),
        ];
        for (sampling, expected) in cases {
            assert_eq!(queue(sampling, second), expected, "{sampling:?}");
        }
    }

    #[test]
    fn only_filter_statuses_fall_back() {
        assert!(is_about_filter(StatusCode::BadFilterNotAllowed));
        assert!(!is_about_filter(StatusCode::BadNodeIdUnknown));
    }
}
