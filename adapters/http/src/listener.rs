//! The accept loop: bounded in connections, in all and for each address.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tidegate_adapter_api::Door;
use tidegate_tls::ServerTls;
use tokio::{
    net::TcpStream,
    sync::OwnedMutexGuard,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    connection::{Shared, serve, serve_encrypted},
    login::Client,
};

/// How long requests under way are waited for when the gateway stops.
const DRAIN: Duration = Duration::from_millis(800);

/// How long nothing is accepted after the system could not, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be, and how many there are.
#[derive(Debug)]
pub(crate) struct Capacity {
    total_max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    Total,
    Address,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    capacity: Arc<Capacity>,
    address: IpAddr,
}

impl Capacity {
    pub(crate) fn new(total_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, per_address_max, open: Mutex::default() })
    }

    /// Takes a place, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        self.take(address).ok()
    }

    fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Excess> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total_max {
            return Err(Excess::Total);
        }
        let from_here = open.by_address.entry(address).or_default();
        if *from_here >= self.per_address_max {
            return Err(Excess::Address);
        }
        *from_here += 1;
        open.total += 1;
        Ok(Place { capacity: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.capacity.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(from_here) = open.by_address.get_mut(&self.address) {
            *from_here -= 1;
            if *from_here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts connections until the shutdown, then waits a little for those that are open.
pub(crate) async fn accept(
    mut door: OwnedMutexGuard<Door>,
    tls: Option<Arc<ServerTls>>,
    shared: Arc<Shared>,
    capacity: Arc<Capacity>,
) {
    let mut connections = JoinSet::new();
    {
        let mut shutdown = pin!(shared.shutdown.cancelled());
        loop {
            tokio::select! {
                // Ended connections before new ones, so that none pile up; there are as many ends as
                // beginnings, and a new one waits in the backlog.
                biased;
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => resume(ended),
                accepted = door.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(place) = admit(&shared, &capacity, &stream, peer) {
                            let (shared, tls) = (shared.clone(), tls.clone());
                            connections.spawn(async move {
                                match tls {
                                    Some(tls) => serve_encrypted(shared, stream, peer.ip(), &tls).await,
                                    None => serve(shared, stream, Client::plain(peer.ip())).await,
                                }
                                drop(place);
                            });
                        }
                    }
                    Err(error) => {
                        shared.site.counters.accept_failed.increment();
                        if !is_about_one_connection(&error) {
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                },
            }
        }
    }
    drop(door);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            resume(ended);
        }
    };
    // What takes longer is cut off by dropping the set.
    let _ = timeout(DRAIN, drained).await;
    connections.shutdown().await;
}

fn admit(
    shared: &Shared,
    capacity: &Arc<Capacity>,
    stream: &TcpStream,
    peer: SocketAddr,
) -> Option<Place> {
    let counters = &shared.site.counters;
    match capacity.take(peer.ip()) {
        Ok(place) => {
            counters.accepted.increment();
            // An answer is one write: waiting for more would only delay it. Without it all works, slower.
            let _ = stream.set_nodelay(true);
            Some(place)
        }
        Err(Excess::Total) => {
            counters.over_total.increment();
            None
        }
        Err(Excess::Address) => {
            counters.over_address.increment();
            None
        }
    }
}

/// Returns whether a failed accept says nothing about the next one.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Passes a panic of a connection on: the supervisor reports it and starts the adapter again.
fn resume(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let capacity = Capacity::new(3, 2);
        let (first, second) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let places = [capacity.take(first).unwrap(), capacity.take(first).unwrap()];
        assert_eq!(capacity.take(first).unwrap_err(), Excess::Address);
        let other = capacity.take(second).unwrap();
        assert_eq!(capacity.take(second).unwrap_err(), Excess::Total);
        drop((places, other));
        let open = capacity.open.lock().unwrap();
        assert_eq!((open.total, open.by_address.len()), (0, 0));
    }
}
