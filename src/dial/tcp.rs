//! A TCP connection to the first address that answers.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

use super::{DialError, authority};

/// An address that does not answer leaves the others as much.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed by the system after so long: middle boxes forget silent ones.
const PROBE_AFTER: Duration = Duration::from_secs(60);

/// Connects to one of the addresses of a host.
pub(super) async fn connect(
    host: &str,
    port: u16,
    interface: Option<&Arc<str>>,
) -> Result<TcpStream, DialError> {
    let failed = |source| DialError::Connect { to: authority(host, port), source };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let found = lookup_host((host, port)).await;
    let found = found.map_err(|source| DialError::Lookup { host: host.to_owned(), source })?;
    let (six, four): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    for address in alternating(six, four) {
        let socket = match open(address) {
            Ok(socket) => socket,
            Err(error) => {
                last = error;
                continue;
            }
        };
        if let Some(name) = interface {
            let bound = socket.bind_device(Some(name.as_bytes()));
            bound.map_err(|source| DialError::Interface { name: Arc::clone(name), source })?;
        }
        match timeout(ADDRESS_TIMEOUT, socket.connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed(last))
}

/// Alternates between the families: one of them may lead nowhere (RFC 8305, section 4).
fn alternating(six: Vec<SocketAddr>, four: Vec<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    let longest = six.len().max(four.len());
    (0..longest).flat_map(move |at| [six.get(at).copied(), four.get(at).copied()]).flatten()
}

fn open(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (six, four) =
            (addresses(&["[::1]:1", "[::2]:1", "[::3]:1"]), addresses(&["1.1.1.1:1"]));
        let tried: Vec<String> = alternating(six, four).map(|it| it.to_string()).collect();
        assert_eq!(tried, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
    }
}
