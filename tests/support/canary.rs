//! The canary (recipe R12): round trips that must stay quick whatever is done to the gateway.
//!
//! Beside them it asks a plain server of its own. What that one has to wait for is the machine's doing, not the
//! gateway's, and is granted to the gateway on top.

use serde_json::{Value, json};

use super::{peer::Peer, wait};

/// Longest stretch without a round trip (rule G4), in seconds.
const GAP_MAX: f64 = 2.0;
/// What 99 of 100 round trips take at most under an attack (rule G4), in seconds.
const TRIP_MAX: f64 = 1.0;

/// Where a canary makes its round trips, and as whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places<'a> {
    /// The MQTT listener, in the clear.
    pub(crate) mqtt: Option<u16>,
    /// The HTTP listener, in the clear.
    pub(crate) http: Option<u16>,
    /// The CoAP listener.
    pub(crate) coap: Option<u16>,
    /// User name and password over MQTT. It must have the rights to publish and subscribe to `canary/#`.
    pub(crate) login: (&'a str, &'a str),
}

/// A canary that sings.
#[derive(Debug)]
pub(crate) struct Canary(Peer);

impl Canary {
    /// Starts the round trips.
    #[track_caller]
    pub(crate) fn start(places: &Places<'_>) -> Self {
        let ports = [("--mqtt", places.mqtt), ("--http", places.http), ("--coap", places.coap)];
        let (user, password) = places.login;
        let mut arguments =
            vec!["--user".to_owned(), user.into(), "--password".into(), password.into()];
        for (option, port) in ports {
            if let Some(port) = port {
                arguments.extend([option.to_owned(), port.to_string()]);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Self(Peer::start("canary.py", &arguments))
    }

    /// Forgets what was measured so far.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.0.ask("restart", json!({}));
    }

    /// Returns what the round trips were like.
    #[track_caller]
    pub(crate) fn report(&mut self) -> Value {
        self.0.ask("report", json!({}))
    }

    /// Checks rule G4 and prints the figures.
    #[track_caller]
    pub(crate) fn check(&mut self) {
        // A short case ends before the next round trip does.
        let report = wait::until("a round trip of each kind", || {
            let report = self.report();
            let trips = report.as_object().expect("an object");
            trips.values().all(|trips| trips["count"].as_u64() > Some(0)).then_some(report)
        });
        let figure = |trips: &Value, name: &str| trips[name].as_f64().expect("a number");
        let control = &report["control"];
        for (protocol, trips) in report.as_object().expect("an object") {
            println!("canary {protocol}: {trips}");
            assert!(figure(trips, "count") > 0.0, "{protocol}: {trips}");
            for (name, limit) in [("gap", GAP_MAX), ("p99", TRIP_MAX)] {
                let granted = limit + figure(control, name);
                assert!(figure(trips, name) <= granted, "{protocol}: {trips}, control: {control}");
            }
        }
    }
}
