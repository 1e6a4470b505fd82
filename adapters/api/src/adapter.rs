//! What an adapter is, and what it gets.

use std::future::Future;

use tidegate_model::AdapterName;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Access, AdapterError, CommandRequest, Counters, HealthSource, Intake, PointSet, Reach,
    TopicSpace,
};

/// Bridges one family of field devices to the gateway.
///
/// An adapter turns what devices say into readings and carries out commands. It knows the addresses
/// and data types of its protocol, and nothing of the broker or the cloud; topics it sees only through
/// [`TopicSpace`], and only if it has a topic side.
pub trait Adapter: Send + 'static {
    /// Returns the name used in configuration, logs and metrics, such as `plc7`.
    fn name(&self) -> &AdapterName;

    /// Serves the devices until `context.shutdown` is cancelled.
    ///
    /// Returns `Ok(())` within one second of the cancellation. May be called again after an error.
    ///
    /// # Errors
    ///
    /// An error ends this run, never the adapter: the supervisor starts the next run after a back-off
    /// that [`AdapterError::is_transient`] chooses. One malformed message is no error; count it.
    fn run(
        &mut self,
        context: &mut AdapterContext,
    ) -> impl Future<Output = Result<(), AdapterError>> + Send;
}

/// Everything an adapter gets from the gateway.
#[derive(Debug)]
pub struct AdapterContext {
    /// The addresses that mappings name; changes when mappings are reloaded.
    pub points: watch::Receiver<PointSet>,
    /// Takes readings and returns a receipt for each batch.
    pub intake: Intake,
    /// Yields the commands for this adapter's devices, oldest first. Each carries its own reply.
    pub commands: mpsc::Receiver<CommandRequest>,
    /// Takes notice of whether commands can be carried out; an adapter that carries out any holds it while it can.
    pub reach: Reach,
    /// Shows the topic space to clients of the protocol, on behalf of a principal.
    pub topics: TopicSpace,
    /// Says who a client is.
    pub access: Access,
    /// Says how the gateway is, for those adapters that show it.
    pub health: HealthSource,
    /// Counts what the adapter refuses or drops.
    pub counters: Counters,
    /// Is cancelled once, when the gateway stops or the adapter is removed.
    pub shutdown: CancellationToken,
}
