//! Readiness, watchdog and stop notices to systemd; nothing at all when it did not start us.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::PathBuf,
    time::Duration,
};

use tracing::debug;

/// How long the service manager may take to read a notice that it must not miss.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says that the store is open and the listeners are bound.
pub fn ready() {
    notify("READY=1", Some(PATIENCE));
}

/// Says that the gateway is on its way out.
pub fn stopping() {
    notify("STOPPING=1", Some(PATIENCE));
}

/// Says that the gateway is alive; called from proof of life only, never from a bare timer.
///
/// Never waits: a service manager that does not read must not stop what it watches over.
pub fn alive() {
    notify("WATCHDOG=1", None);
}

/// Returns how often systemd wants to hear that we are alive, if it does.
pub fn watchdog_interval() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let for_us =
        std::env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
    (for_us && micros > 0).then(|| Duration::from_micros(micros))
}

/// Returns the folder of the credentials that the service manager hands over.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Sends one notice as sd_notify(3) describes.
fn notify(notice: &str, patience: Option<Duration>) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&address, notice, patience) {
        debug!(%error, notice, "Cannot notify the service manager");
    }
}

fn send(address: &OsStr, notice: &str, patience: Option<Duration>) -> io::Result<()> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    match patience {
        Some(patience) => socket.set_write_timeout(Some(patience))?,
        None => socket.set_nonblocking(true)?,
    }
    socket.send_to_addr(notice.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_18_a_service_manager_that_does_not_read_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // Without this, the queue that is full would make the next notice wait for ever.
        let refused = std::iter::repeat_with(|| send(path.as_os_str(), "WATCHDOG=1", None))
            .take(100_000)
            .find_map(Result::err);
        assert_eq!(refused.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        let mut notice = [0; 64];
        let length = socket.recv(&mut notice).unwrap();
        assert_eq!(&notice[..length], b"WATCHDOG=1");
        send(path.as_os_str(), "READY=1", Some(PATIENCE)).unwrap();
    }
}
