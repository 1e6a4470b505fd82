//! A UDP socket that answers from the address that was asked.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    slice::Chunks,
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tidegate_coap::{Datagram, Peer};
use tokio::{io::Interest, net::UdpSocket};

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    /// Of a socket that listens on all addresses: there each datagram says which one it was sent to. The others
    /// do without.
    addresses: Option<UdpSocketState>,
}

/// What one call has read: datagrams of one peer, of the same size but for the last.
#[derive(Debug)]
pub(crate) struct Received {
    /// Who sent them.
    pub(crate) peer: Peer,
    length: usize,
    stride: usize,
}

impl Received {
    /// Returns the datagrams out of the buffer that was read into.
    pub(crate) fn datagrams<'b>(&self, buffer: &'b [u8]) -> Chunks<'b, u8> {
        buffer[..self.length].chunks(self.stride.max(1))
    }
}

impl Socket {
    /// Takes a socket that does not block.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let listens_on_all = socket.local_addr()?.ip().is_unspecified();
        let addresses =
            if listens_on_all { Some(UdpSocketState::new((&socket).into())?) } else { None };
        Ok(Self { socket: UdpSocket::from_std(socket)?, addresses })
    }

    /// Waits until there is something to read. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads what has arrived, without waiting.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let Some(state) = &self.addresses else {
            let (length, address) = self.socket.try_recv_from(buffer)?;
            return Ok(Received { peer: address.into(), length, stride: length });
        };
        let mut meta = [RecvMeta::default()];
        self.socket.try_io(Interest::READABLE, || {
            state.recv((&self.socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta)
        })?;
        let [RecvMeta { addr, len: length, stride, dst_ip, .. }] = meta;
        let peer = dst_ip.map_or_else(|| addr.into(), |local| Peer::of(local, addr));
        Ok(Received { peer, length, stride })
    }

    /// Sends a datagram, without waiting.
    pub(crate) fn try_send(&self, datagram: &Datagram) -> io::Result<()> {
        let destination: SocketAddr = datagram.peer.address();
        match &self.addresses {
            None => self.socket.try_send_to(&datagram.bytes, destination).map(drop),
            Some(state) => {
                let contents = &datagram.bytes;
                let src_ip = datagram.peer.local();
                let transmit =
                    Transmit { destination, ecn: None, contents, segment_size: None, src_ip };
                self.socket
                    .try_io(Interest::WRITABLE, || state.try_send((&self.socket).into(), &transmit))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_coap::{Endpoint, Output, Settings};
    use tokio::time::timeout;

    use super::*;

    async fn receive(socket: &Socket, buffer: &mut [u8]) -> Received {
        let attempts = async {
            loop {
                socket.readable().await.unwrap();
                if let Ok(received) = socket.try_receive(buffer) {
                    return received;
                }
            }
        };
        timeout(Duration::from_secs(5), attempts).await.unwrap()
    }

    /// The answer comes from the address that was asked, on a socket for all addresses as on one for one.
    #[tokio::test]
    async fn answers_come_from_the_address_that_was_asked() {
        let ping = [0x40, 0, 0x12, 0x34];
        for (listen, asked) in [
            ("0.0.0.0:0", "127.0.0.2"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("127.0.0.3:0", "127.0.0.3"),
            ("[::]:0", "::1"),
        ] {
            let Ok(socket) = std::net::UdpSocket::bind(listen) else {
                assert!(listen.starts_with('['), "only IPv6 may be missing");
                continue;
            };
            socket.set_nonblocking(true).unwrap();
            let port = socket.local_addr().unwrap().port();
            let server = Socket::new(socket).unwrap();
            let wildcard = if asked.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let client = UdpSocket::bind(wildcard).await.unwrap();
            let target = SocketAddr::new(asked.parse().unwrap(), port);
            client.send_to(&ping, target).await.unwrap();

            let mut buffer = vec![0; 2_048];
            let received = receive(&server, &mut buffer).await;
            let datagrams: Vec<&[u8]> = received.datagrams(&buffer).collect();
            assert_eq!(datagrams, [&ping[..]], "{listen}");
            let mut output = Output::with_capacity(1);
            let mut endpoint = Endpoint::new(Settings::default(), 1);
            let now = std::time::Instant::now();
            endpoint.handle_datagram(now, received.peer, datagrams[0], &mut output);
            server.try_send(&output.pop().unwrap()).unwrap();
            let answer = timeout(Duration::from_secs(5), client.recv_from(&mut buffer));
            let (length, from) = answer.await.unwrap().unwrap();
            assert_eq!((&buffer[..length], from), (&[0x70, 0, 0x12, 0x34][..], target), "{listen}");
        }
    }
}
