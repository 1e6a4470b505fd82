//! Ports that nobody else takes before the test does.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::{process, time};

/// Below the range from which the kernel serves outgoing connections, so that none of those takes one.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Where the search goes on; 0 before the first call.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Returns a port of 127.0.0.1 that is free for TCP and UDP, and was not returned before.
pub(crate) fn free_port() -> u16 {
    // Other test processes search at the same time: each begins elsewhere.
    let _ = NEXT.compare_exchange(0, start(), Ordering::Relaxed, Ordering::Relaxed);
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no port is free between {FIRST} and {}", FIRST + COUNT);
}

fn start() -> u16 {
    let nanos = time::SystemTime::now()
        .duration_since(time::UNIX_EPOCH)
        .map_or(0, |age| age.subsec_nanos());
    let mixed = nanos.wrapping_mul(31).wrapping_add(process::id().wrapping_mul(7_919));
    u16::try_from(mixed % u32::from(COUNT)).expect("below COUNT").max(1)
}
