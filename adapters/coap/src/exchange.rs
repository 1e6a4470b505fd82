//! What the gateway keeps of an exchange, so that its repetition is recognised after a restart.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV6},
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use tidegate_adapter_api::{Exchange, Keep, RecalledExchange};
use tidegate_coap::{Endpoint, ExchangeId, MessageClass, Peer};

use crate::resource::DONE;

/// Names the exchanges of one listener.
///
/// A sender is the listener, as a short hash, the peer's port and address, and on a listener for all addresses the
/// one that was asked; its exchanges are told apart by message ID. The request key stands with the answer: a device
/// that restarted may use a message ID again, and then its later request is the one that counts.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    listener: u16,
    lifetime: Duration,
}

impl Memory {
    pub(crate) fn new(listener: SocketAddr, lifetime: Duration) -> Self {
        Self { listener: short_hash(&listener.to_string()), lifetime }
    }

    /// Names an exchange that ends with 2.04.
    pub(crate) fn exchange(&self, id: ExchangeId) -> Exchange {
        let mut name = BytesMut::with_capacity(32);
        name.put_u16(self.listener);
        let peer = id.peer().address();
        name.put_u16(peer.port());
        match peer {
            SocketAddr::V4(peer) => name.put_slice(&peer.ip().octets()),
            SocketAddr::V6(peer) => {
                name.put_slice(&peer.ip().octets());
                name.put_u32(peer.scope_id());
            }
        }
        match id.peer().local() {
            Some(IpAddr::V4(local)) => name.put_slice(&local.octets()),
            Some(IpAddr::V6(local)) => name.put_slice(&local.octets()),
            None => {}
        }
        let sender = name.split().freeze();
        name.put_u16(id.message_id());
        let mut answer = BytesMut::with_capacity(5);
        answer.put_u8(MessageClass::Response(DONE).into());
        answer.put_u32(id.request_key());
        Exchange {
            keep: Keep::Newest,
            sender,
            id: name.freeze(),
            answer: answer.freeze(),
            lifetime: self.lifetime,
        }
    }

    /// Tells an endpoint which requests were answered before; returns how many.
    pub(crate) fn refill(&self, endpoint: &mut Endpoint, recalled: &[RecalledExchange]) -> u64 {
        let now = Instant::now();
        let mut count = 0;
        for exchange in recalled {
            let Some((code, key)) = exchange.answer.split_first() else { continue };
            let MessageClass::Response(code) = MessageClass::from(*code) else { continue };
            if let Some(id) = self.read(&exchange.sender, &exchange.id, key) {
                endpoint.recall(now, id, exchange.remaining, code);
                count += 1;
            }
        }
        count
    }

    /// Reads a name and a request key; `None` if another listener made them, or no listener.
    fn read(&self, sender: &[u8], id: &[u8], key: &[u8]) -> Option<ExchangeId> {
        let (listener, rest) = sender.split_first_chunk::<2>()?;
        if u16::from_be_bytes(*listener) != self.listener {
            return None;
        }
        let (port, addresses) = rest.split_first_chunk::<2>()?;
        let port = u16::from_be_bytes(*port);
        // 4 bytes of an IPv4 address, or 20 of an IPv6 address and its scope; behind it ours, if it is told.
        let (address, local): (SocketAddr, &[u8]) = match addresses.len() {
            4 | 8 => {
                let (octets, local) = addresses.split_first_chunk::<4>()?;
                (SocketAddr::new(IpAddr::from(*octets), port), local)
            }
            _ => {
                let (octets, rest) = addresses.split_first_chunk::<16>()?;
                let (scope, local) = rest.split_first_chunk::<4>()?;
                let scope = u32::from_be_bytes(*scope);
                (SocketAddrV6::new((*octets).into(), port, 0, scope).into(), local)
            }
        };
        let peer = if local.is_empty() {
            Peer::from(address)
        } else if let Ok(octets) = <[u8; 4]>::try_from(local) {
            Peer::of(IpAddr::from(octets), address)
        } else {
            Peer::of(IpAddr::from(<[u8; 16]>::try_from(local).ok()?), address)
        };
        let message_id = u16::from_be_bytes(id.try_into().ok()?);
        let key = u32::from_be_bytes(key.try_into().ok()?);
        Some(ExchangeId::new(peer, message_id, key))
    }
}

/// Returns two bytes that stand for a text, the same in every version of the gateway (the hash of Fowler, Noll
/// and Vo, folded).
fn short_hash(text: &str) -> u16 {
    let hash = text
        .bytes()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [first, second, third, fourth] = hash.to_be_bytes();
    u16::from_be_bytes([first ^ third, second ^ fourth])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(text: &str) -> Memory {
        Memory::new(text.parse().unwrap(), Duration::from_secs(247))
    }

    /// main.10: a name says again what it was made of, to its own listener only.
    #[test]
    fn names_of_exchanges_read_back() {
        let own = listener("0.0.0.0:5683");
        for peer in ["192.0.2.1:5683", "[2001:db8::1]:61616", "[fe80::1%7]:1"] {
            let address: SocketAddr = peer.parse().unwrap();
            let local = if address.is_ipv4() { "192.0.2.9" } else { "2001:db8::9" };
            for peer in [address.into(), Peer::of(local.parse().unwrap(), address)] {
                let id = ExchangeId::new(peer, 0xA7, 0xDEAD_BEEF);
                let Exchange { sender, id: name, answer, .. } = own.exchange(id);
                assert_eq!(answer[..], [0x44, 0xDE, 0xAD, 0xBE, 0xEF], "2.04");
                let key = &answer[1..];
                assert_eq!(own.read(&sender, &name, key), Some(id), "{peer:?}");
                assert_eq!(listener("0.0.0.0:5684").read(&sender, &name, key), None, "{peer:?}");
                assert_eq!(own.read(&sender[..sender.len() - 1], &name, key), None, "{peer:?}");
                assert_eq!(own.read(&sender, &name[..1], key), None, "{peer:?}");
                assert_eq!(own.read(&sender, &name, &key[1..]), None, "{peer:?}");
            }
        }
        assert_eq!(own.read(b"", b"", b""), None);
    }
}
