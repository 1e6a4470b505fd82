//! Finding out that a peer is gone which has promised no sign of life (fault case M06).

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Probes sent before a silent peer is taken for gone.
const PROBES: u32 = 10;

/// Lets the system probe the peer when it has been silent for `silence`; half as long after that the connection ends
/// unless it answers.
///
/// # Errors
///
/// If the system refuses.
pub(super) fn watch(stream: &TcpStream, silence: Duration) -> std::io::Result<()> {
    let between = (silence / (2 * PROBES)).max(Duration::from_secs(1));
    let probing =
        TcpKeepalive::new().with_time(silence).with_interval(between).with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M06: a peer that keeps still is found gone within one and a half times the longest keep alive.
    #[tokio::test]
    async fn fault_m06_silent_peers_are_probed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let cap = Duration::from_secs(600);
        watch(&stream, cap).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        let probes = socket.tcp_keepalive_retries().unwrap();
        let longest = socket.tcp_keepalive_time().unwrap()
            + socket.tcp_keepalive_interval().unwrap() * probes;
        assert_eq!(longest, cap * 3 / 2);
    }
}
