//! The embedded plant: devices of four protocols, each speaking to the gateway over a socket of its own.

mod coap;
mod http;
mod mqtt;
mod opcua;
mod signal;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

pub(super) use self::{
    opcua::{PRESSES, Presses, setpoint_topic},
    signal::{Row, Signal},
};
use crate::{pipeline::Addresses, supervise::Stage};

/// The devices. Dropping it ends them at once.
pub(super) struct Plant {
    /// A row for each protocol.
    pub(super) rows: Vec<Row>,
    /// The machines behind the OPC UA server.
    pub(super) presses: Presses,
    devices: Stage,
    server: Stage,
}

/// The OPC UA server of the plant, which stands before the gateway does.
pub(super) struct Foundation {
    presses: Presses,
    server: Stage,
}

impl Foundation {
    /// Starts the OPC UA server; its files go below `folder`.
    ///
    /// # Errors
    ///
    /// If no address can be bound.
    pub(super) async fn lay(folder: &Path) -> anyhow::Result<Self> {
        let mut server = Stage::new("demo OPC UA server");
        let presses = Presses::start(folder, &mut server).await?;
        Ok(Self { presses, server })
    }

    /// Returns where the OPC UA server is.
    pub(super) fn opcua_endpoint(&self) -> String {
        self.presses.endpoint()
    }
}

impl Plant {
    /// Starts all devices, which report to the gateway at `addresses`.
    ///
    /// # Errors
    ///
    /// If the gateway does not listen for a protocol, or a socket cannot be made.
    pub(super) async fn start(
        foundation: Foundation,
        addresses: &Addresses,
    ) -> anyhow::Result<Self> {
        let Foundation { presses, server } = foundation;
        let mut devices = Stage::new("demo devices");
        let first = |list: &[std::net::SocketAddr], protocol: &str| {
            list.first().copied().with_context(|| format!("the gateway has no {protocol} address"))
        };
        let rows = vec![
            presses.operate(&mut devices),
            coap::start(first(&addresses.coap, "CoAP")?, &mut devices).await?,
            http::start(first(&addresses.http, "HTTP")?, &mut devices),
            mqtt::start(first(&addresses.mqtt, "MQTT")?, &mut devices),
        ];
        Ok(Self { rows, presses, devices, server })
    }

    /// Stops the devices, each after the answer it waits for; the OPC UA server goes on, so that the gateway
    /// can fetch the last values.
    pub(super) async fn stop(self, patience: Duration) -> StoppedPlant {
        self.devices.stop(Instant::now() + patience).await;
        StoppedPlant { rows: self.rows, presses: self.presses, server: self.server }
    }
}

/// The plant without moving parts.
pub(super) struct StoppedPlant {
    /// A row for each protocol.
    pub(super) rows: Vec<Row>,
    presses: Presses,
    server: Stage,
}

impl StoppedPlant {
    /// Returns how many readings of each topic the devices know the gateway to have.
    pub(super) fn handed_over(&self) -> BTreeMap<String, u64> {
        self.rows
            .iter()
            .flat_map(|row| &row.signals)
            .map(|signal| (signal.topic.clone(), signal.handed_over()))
            .collect()
    }

    /// Ends the OPC UA server.
    pub(super) async fn close(self, patience: Duration) {
        self.presses.close();
        self.server.stop(Instant::now() + patience).await;
    }
}
