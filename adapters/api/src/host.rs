//! Names under which a machine is reached.

use std::net::IpAddr;

/// Returns whether a host, with or without a port, is an address or `localhost`.
///
/// Any other name can be made to point at a local address by whoever owns it (DNS rebinding).
pub fn is_address_or_localhost(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}
