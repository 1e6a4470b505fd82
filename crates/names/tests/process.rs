//! Sets the lookup of names as a program does at its start; without libtest, which starts threads (identity.11).
//!
//! That nothing is loaded, and that names resolve, `cargo xtask package` shows with the program itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use tidegate_names::{NotSet, use_files_and_dns};

fn main() {
    assert_eq!(use_files_and_dns(), Ok(()), "alone");
    assert_eq!(use_files_and_dns(), Ok(()), "a second time");
    let addresses = ("localhost", 1883).to_socket_addrs().expect("every hosts file has localhost");
    let mut count = 0;
    for address in addresses {
        let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        assert!(own.contains(&address.ip()), "{address}");
        count += 1;
    }
    assert!(count > 0, "localhost has an address");
    let beside = std::thread::scope(|scope| scope.spawn(use_files_and_dns).join());
    assert_eq!(beside.expect("the thread ends well"), Err(NotSet::NotAlone));
}
