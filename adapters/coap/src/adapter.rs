//! The adapter: its sockets, and the tasks that serve them.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use tidegate_adapter_api::{
    Adapter, AdapterContext, AdapterError, CommandRequest, Keep, RecalledExchange,
};
use tidegate_coap::{Endpoint, Settings};
use tidegate_model::{AdapterName, CommandOutcome};
use tokio::task::JoinSet;
use tracing::info;

use crate::{
    counters::CoapCounters, exchange::Memory, resource::Site, server::Server, socket::Socket,
};

/// Where the adapter listens, and its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct CoapSettings {
    /// The UDP addresses; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Most bytes the body of a request may have (`limits.coap.max-body`).
    pub body_bytes_max: usize,
    /// How long a confirmable request is remembered (`limits.coap.dedup-lifetime`).
    pub duplicate_lifetime: Duration,
    /// Most requests of one socket that are remembered (`limits.coap.dedup-entries`).
    pub duplicates_max: usize,
    /// How long a request may take before it is acknowledged without its answer.
    pub ack_delay: Duration,
}

impl CoapSettings {
    /// Returns the settings for these addresses, with the limits of `docs/fault-catalogue.md`.
    pub fn listening_on(listen: Vec<SocketAddr>) -> Self {
        let defaults = Settings::default();
        Self {
            listen,
            body_bytes_max: defaults.body_bytes_max,
            duplicate_lifetime: defaults.duplicate_lifetime,
            duplicates_max: defaults.duplicates_max,
            ack_delay: defaults.ack_delay,
        }
    }

    fn endpoint(&self) -> Settings {
        Settings {
            body_bytes_max: self.body_bytes_max,
            duplicate_lifetime: self.duplicate_lifetime,
            duplicates_max: self.duplicates_max,
            ack_delay: self.ack_delay,
            ..Settings::default()
        }
    }
}

/// Serves CoAP devices over UDP.
#[derive(Debug)]
pub struct CoapAdapter {
    name: AdapterName,
    settings: CoapSettings,
    sockets: Vec<(UdpSocket, SocketAddr)>,
}

impl CoapAdapter {
    /// Binds all addresses, so that one in use is found before anything is served.
    ///
    /// # Errors
    ///
    /// [`AdapterError::Bind`] names the first address that cannot be had.
    pub fn bind(name: AdapterName, settings: CoapSettings) -> Result<Self, AdapterError> {
        let bind = |address: &SocketAddr| {
            bind(*address)
                .map_err(|source| AdapterError::Bind { address: address.to_string(), source })
        };
        let sockets = settings.listen.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { name, settings, sockets })
    }

    /// Returns the addresses that are listened on, in the order of the settings.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(_, address)| *address).collect()
    }

    async fn server(
        &self,
        socket: &UdpSocket,
        address: SocketAddr,
        context: &AdapterContext,
        recalled: &[RecalledExchange],
    ) -> io::Result<Server> {
        let counters = CoapCounters::new(&context.counters);
        let client = context.access.stranger();
        let site = Site::new(context.intake.clone(), client, counters.refused.clone());
        let memory = Memory::new(address, self.settings.duplicate_lifetime);
        // A fresh hasher is keyed at random: enough for message IDs and jitter.
        let seed = RandomState::new().hash_one(address);
        let mut endpoint = Endpoint::new(self.settings.endpoint(), seed);
        counters.recalled.add(memory.refill(&mut endpoint, recalled));
        Ok(Server {
            socket: Socket::new(socket.try_clone()?)?,
            address,
            endpoint,
            site,
            points: context.points.clone(),
            counters,
            memory,
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

impl Adapter for CoapAdapter {
    fn name(&self) -> &AdapterName {
        &self.name
    }

    async fn run(&mut self, context: &mut AdapterContext) -> Result<(), AdapterError> {
        let mut servers = JoinSet::new();
        // What a run before this one handed in: of each it is known then whether it counts as answered.
        tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return Ok(()),
            () = context.intake.settled() => {}
        }
        // Before the first datagram is read: it may be the repetition of a request that was answered before.
        let recalled = context.intake.recall(Keep::Newest);
        for (socket, address) in &self.sockets {
            let bind = |source| AdapterError::Bind { address: address.to_string(), source };
            let server = self.server(socket, *address, context, &recalled).await.map_err(bind)?;
            servers.spawn(server.run(context.shutdown.clone()));
            info!(adapter = %self.name, %address, "CoAP is served");
        }
        loop {
            tokio::select! {
                // The end of a server, an error or the shutdown, is what matters.
                biased;
                ended = servers.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(result)) => result?,
                    Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                },
                Some(request) = context.commands.recv() => refuse(request),
            }
        }
    }
}

/// CoAP devices are clients here: nothing can be written to them.
fn refuse(request: CommandRequest) {
    request.reply.send(CommandOutcome::refused(
        "not supported: a CoAP resource of the gateway takes no commands",
    ));
}
