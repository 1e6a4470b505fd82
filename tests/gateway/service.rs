//! Life under the service manager: ready, alive, stopping (main.18), and one gateway for one folder.

use std::time::Duration;

use crate::support::gateway::Gateway;
use crate::support::ports;
use crate::support::site::Site;

/// The smallest configuration: a broker that lets nobody in.
fn minimal() -> Site {
    let port = ports::free_port();
    Site::new(
        &format!(
            "[gateway]\nid = \"g\"\ndata-dir = \"data\"\nmappings = []\n\n[mqtt]\nlisten = [\"127.0.0.1:{port}\"]\n"
        ),
        &[],
    )
}

#[test]
fn main_18_the_service_manager_hears_ready_alive_and_stopping() {
    let mut gateway = Gateway::prepare(&minimal());
    gateway.set("WATCHDOG_USEC", &Duration::from_millis(500).as_micros().to_string());
    gateway.start_again();
    for _ in 0..3 {
        gateway.wait_for_notice("WATCHDOG=1");
    }
    gateway.ask_to_stop();
    gateway.wait_for_notice("STOPPING=1");
    let (code, output) = gateway.wait_for_end();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn a_start_after_every_kind_of_end_is_ready_again() {
    let mut gateway = Gateway::start(&minimal());
    gateway.kill9();
    gateway.start_again();
    assert!(gateway.terminate().success());
    gateway.start_again();
    assert!(gateway.status(&[]).is_object());
}

#[test]
fn a_wrong_configuration_ends_with_its_own_code() {
    let site = Site::new("[gateway]\nid = 7\n", &[]);
    let mut gateway = Gateway::prepare(&site);
    gateway.spawn();
    let (code, output) = gateway.wait_for_end();
    assert_eq!(code, Some(78), "{output}");
}
