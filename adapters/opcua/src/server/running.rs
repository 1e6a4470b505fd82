//! The server itself: made, run until it is stopped, and spoken to meanwhile.

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc};

use opcua_server::{
    ANONYMOUS_USER_TOKEN_ID, ServerBuilder, ServerEndpoint, ServerHandle,
    diagnostics::DiagnosticsNodeManagerBuilder,
    node_manager::memory::{InMemoryNodeManager, InMemoryNodeManagerBuilder},
};
use thiserror::Error;
use tokio::net::TcpListener;

use super::{
    core_nodes::CoreNodesBuilder,
    variables::{Variable, VariableIndex, Variables, VariablesBuilder},
};

/// How often the server looks for what is to be published, in milliseconds; also the shortest publishing and
/// sampling interval that it grants.
const TICK_MS: u16 = 50;
/// Values of a variable that are kept for a client between two messages, at most.
const QUEUE_MAX: usize = 1_000;

/// What a server is called and where it keeps its certificates.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Its application URI, such as `urn:example:press-server`.
    pub application_uri: String,
    /// The namespace URI of its variables.
    pub namespace: String,
    /// Made if absent; stays without a certificate, for the only endpoint has no security.
    pub pki_directory: PathBuf,
}

/// Why a server cannot be made or cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The listener has no address.
    #[error("the listener has no address")]
    Address(#[source] std::io::Error),
    /// The listener would let other machines in; the server has no security.
    #[error("{address} is not a loopback address, and the server has no security")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The library refused the settings or ended the server.
    #[error("{reason}")]
    Failed {
        /// What it says.
        reason: String,
    },
}

/// A server without security for clients of this machine. Cheap to clone.
#[derive(Clone)]
pub struct VariableServer {
    handle: ServerHandle,
    manager: Arc<InMemoryNodeManager<Variables>>,
    address: SocketAddr,
}

impl VariableServer {
    /// Makes a server; what is returned beside it serves clients of `listener` until
    /// [`stop`](Self::stop), and has to be run by the caller.
    ///
    /// # Errors
    ///
    /// - [`ServerError::NotLoopback`]: the listener is bound to another address.
    /// - [`ServerError::Failed`]: the library refuses the settings.
    pub fn new(
        settings: ServerSettings,
        listener: TcpListener,
        variables: Vec<Variable>,
    ) -> Result<(Self, impl Future<Output = Result<(), ServerError>> + Send + 'static), ServerError>
    {
        let address = listener.local_addr().map_err(ServerError::Address)?;
        if !address.ip().is_loopback() {
            return Err(ServerError::NotLoopback { address });
        }
        let variables = VariablesBuilder { namespace: settings.namespace, variables };
        let mut builder = ServerBuilder::new()
            .with_node_manager(InMemoryNodeManagerBuilder::new(CoreNodesBuilder))
            .with_node_manager(DiagnosticsNodeManagerBuilder)
            .with_node_manager(InMemoryNodeManagerBuilder::new(variables))
            .application_name("Tidegate variables")
            .product_uri(settings.application_uri.clone())
            .application_uri(settings.application_uri)
            .pki_dir(settings.pki_directory)
            .add_endpoint(
                "none",
                ServerEndpoint::new_none("/", &[ANONYMOUS_USER_TOKEN_ID.to_owned()]),
            )
            .discovery_urls(vec!["/".to_owned()])
            .host(address.ip().to_string())
            .port(address.port())
            .subscription_poll_interval_ms(TICK_MS.into());
        let subscriptions = &mut builder.limits_mut().subscriptions;
        subscriptions.min_publishing_interval_ms = TICK_MS.into();
        subscriptions.min_sampling_interval_ms = TICK_MS.into();
        subscriptions.max_monitored_item_queue_size = QUEUE_MAX;
        let (server, handle) = builder.build().map_err(failed)?;
        let manager = handle.node_managers().get_of_type().expect("it was added above");
        let serving = async move { server.run_with(listener).await.map_err(failed) };
        Ok((Self { handle, manager, address }, serving))
    }

    /// Returns the address to connect to: `opc.tcp://…`.
    pub fn endpoint(&self) -> String {
        format!("opc.tcp://{}", self.address)
    }

    /// Gives the clients that monitor a variable a new value, with the time of now as its source time.
    ///
    /// Returns whether it did: without a client that monitors it, or if `value` is the one that it has, a
    /// variable stays as it is. So every value that a variable takes is one that a client was given.
    pub fn report(&self, variable: VariableIndex, value: f64) -> bool {
        let space = self.manager.address_space();
        self.manager.inner().report(space, self.handle.subscriptions(), variable, value)
    }

    /// Returns what a variable holds, whoever put it there; not a number for an index without one.
    pub fn value(&self, variable: VariableIndex) -> f64 {
        self.manager.inner().value(self.manager.address_space(), variable)
    }

    /// Returns how many values of a variable were given to monitoring clients: the first one of each monitored
    /// item, what was reported, and what clients wrote.
    ///
    /// The count is exact for one client; several are given each value once each, and counted once.
    pub fn reported(&self, variable: VariableIndex) -> u64 {
        self.manager.inner().reported(variable)
    }

    /// Says good-bye to all clients and ends the server.
    pub fn stop(&self) {
        self.handle.cancel();
    }
}

impl std::fmt::Debug for VariableServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("VariableServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn failed(reason: String) -> ServerError {
    ServerError::Failed { reason }
}
