//! Addresses that are listened on only while somebody could log in there (docs/promises.md, C1).

use std::{future::pending, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tracing::{info, warn};

/// How long to wait before an address that is in use is tried again.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// Most connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Whether an address is to be listened on.
#[derive(Clone, Debug, Default)]
pub struct Gate(Option<watch::Receiver<bool>>);

impl Gate {
    /// It always is.
    pub fn always_open() -> Self {
        Self(None)
    }

    /// It is while this says so. When the sender is gone, the last word holds.
    pub fn new(open: watch::Receiver<bool>) -> Self {
        Self(Some(open))
    }

    /// Returns the gate of one address: those of loopback are always listened on.
    #[must_use]
    pub fn of_address(&self, address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::always_open() } else { self.clone() }
    }

    /// Returns whether it is now.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|open| *open.borrow())
    }

    /// Waits until it may be otherwise. Cancel-safe.
    async fn changed(&mut self) {
        let Some(open) = &mut self.0 else { return pending().await };
        if open.changed().await.is_err() {
            pending().await
        }
    }
}

/// A TCP address that is listened on while its gate is open.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    gate: Gate,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Closed,
    /// Bound outside of a runtime, or not asked yet.
    Bound(std::net::TcpListener),
    Listening(TcpListener),
}

impl Door {
    /// Takes the address, and binds it if the gate is open. Port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr, gate: Gate) -> io::Result<Self> {
        let mut door = Self { address, gate, socket: Socket::Closed };
        if door.gate.is_open() {
            let listener = bind(address)?;
            door.address = listener.local_addr()?;
            door.socket = Socket::Bound(listener);
        }
        Ok(door)
    }

    /// Returns the address; with the port that the system chose, if it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection; opens and closes the address as its gate says. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As accepting fails. An address that is in use when its gate opens is no error: it is tried again every second.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            self.follow()?;
            let Self { gate, socket, .. } = self;
            match socket {
                Socket::Listening(listener) => tokio::select! {
                    biased;
                    () = gate.changed() => {}
                    accepted = listener.accept() => return accepted,
                },
                _ => {
                    let retry = gate.is_open();
                    tokio::select! {
                        () = gate.changed() => {}
                        () = sleep(BIND_PAUSE), if retry => {}
                    }
                }
            }
        }
    }

    /// Opens or closes the socket, as the gate is.
    fn follow(&mut self) -> io::Result<()> {
        match (std::mem::replace(&mut self.socket, Socket::Closed), self.gate.is_open()) {
            (Socket::Closed, false) => {}
            (Socket::Bound(_) | Socket::Listening(_), false) => {
                warn!(address = %self.address, "Not listening any more: nobody could log in there");
            }
            (Socket::Closed, true) => match bind(self.address) {
                Ok(listener) => {
                    info!(address = %self.address, "Listening: somebody can log in there now");
                    self.socket = Socket::Listening(TcpListener::from_std(listener)?);
                }
                Err(error) => warn!(address = %self.address, %error, "Cannot listen yet"),
            },
            (Socket::Bound(listener), true) => {
                self.socket = Socket::Listening(TcpListener::from_std(listener)?);
            }
            (listening @ Socket::Listening(_), true) => self.socket = listening,
        }
        Ok(())
    }
}

/// Binds an address and sets `SO_REUSEADDR`, so that a restart does not wait for old connections to fade away.
fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    // The standard library's 128 are too few when a whole plant comes back at once.
    socket2::SockRef::from(&listener).listen(BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream as Client};

    use tokio::task::JoinSet;

    use super::*;

    /// identity.5: nobody gets through to an address before its gate opens, nor after it has closed.
    #[tokio::test]
    async fn identity_05_an_address_is_bound_while_its_gate_is_open() {
        // Taken and given back, for a port that is known and free.
        let address = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap().local_addr().unwrap();
        let (sender, open) = watch::channel(false);
        let mut door = Door::bind(address, Gate::new(open)).unwrap();
        assert_eq!(door.address(), address);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            loop {
                door.accept().await.unwrap();
            }
        });
        tokio::task::yield_now().await;
        assert!(Client::connect(address).is_err(), "closed at the start");
        sender.send_replace(true);
        connect_in_the_end(address, true).await;
        sender.send_replace(false);
        connect_in_the_end(address, false).await;
        sender.send_replace(true);
        connect_in_the_end(address, true).await;
    }

    async fn connect_in_the_end(address: SocketAddr, expected: bool) {
        for _ in 0..500 {
            if Client::connect(address).is_ok() == expected {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("never seen: connected = {expected}");
    }
}
