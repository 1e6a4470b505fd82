//! Certificates that this gateway shows, and when they end: told in status, and warned of in time.

use serde_json::{Value, json};
use tidegate_model::Timestamp;
use tidegate_tls::Identity;
use tracing::{error, warn};

use crate::config::Config;

/// So long before its end a certificate is warned of.
pub const WARNED_DAYS: i64 = 30;

const DAY_SECONDS: i64 = 86_400;

/// A certificate that the gateway shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// The table whose key `cert` names it, such as `mqtt.tls` or `uplink cloud`.
    used_by: String,
    /// Its first name, such as `CN=gateway`.
    name: String,
    /// Its end, in seconds since 1970.
    not_after: i64,
}

impl ShownCertificate {
    /// Returns all that a configuration names.
    pub fn all_of(config: &Config) -> Vec<Self> {
        let listener = |key: &str, tls: Option<&crate::config::TlsConfig>| {
            let setups = tls.map(|tls| &tls.setup).into_iter();
            let shown = setups.flat_map(|setup| [&setup.identity].into_iter().chain(&setup.others));
            shown.map(|identity| Self::new(key.to_owned(), identity)).collect::<Vec<_>>()
        };
        let mqtt = config.mqtt.as_ref();
        let websocket = mqtt.and_then(|mqtt| mqtt.websocket.as_ref());
        let http = config.http.as_ref();
        let listeners = [
            listener("mqtt.tls", mqtt.and_then(|mqtt| mqtt.tls.as_ref())),
            listener("mqtt.websocket.tls", websocket.and_then(|websocket| websocket.tls.as_ref())),
            listener("http.tls", http.and_then(|http| http.tls.as_ref())),
        ];
        let connected = config.uplinks.iter().filter(|uplink| uplink.via.is_none());
        let uplinks = connected.flat_map(|uplink| {
            let shown = uplink.link.endpoints.iter().enumerate().filter_map(|(index, endpoint)| {
                let identity = endpoint.tls.as_ref()?.identity.as_ref()?;
                let backup = if index == 0 { String::new() } else { format!(" backup {index}") };
                Some(Self::new(format!("uplink {}{backup}", uplink.name), identity))
            });
            shown.collect::<Vec<_>>()
        });
        listeners.into_iter().flatten().chain(uplinks).collect()
    }

    fn new(used_by: String, identity: &Identity) -> Self {
        let name = identity.names().iter().next().map(ToString::to_string).unwrap_or_default();
        let not_after = i64::try_from(identity.not_after()).unwrap_or(i64::MAX);
        Self { used_by, name, not_after }
    }

    /// Returns how many whole days are left; fewer than none once it has ended.
    fn days_left(&self, now: Timestamp) -> i64 {
        let left = self.not_after.saturating_sub(now.as_unix_micros().div_euclid(1_000_000));
        left.div_euclid(DAY_SECONDS)
    }

    /// Returns it as status shows it.
    pub fn to_json(&self, now: Timestamp) -> Value {
        let end = Timestamp::from_unix_micros(self.not_after.saturating_mul(1_000_000));
        json!({
            "used-by": self.used_by,
            "name": self.name,
            "not-after": end.to_string(),
            "days-left": self.days_left(now),
        })
    }

    /// Says that the certificate ends soon or has ended, if that is so.
    pub fn warn(&self, now: Timestamp) {
        let Self { used_by, name, .. } = self;
        match self.days_left(now) {
            ..0 => {
                error!(%used_by, %name, "A certificate has ended: nobody believes it any more");
            }
            left if left < WARNED_DAYS => {
                warn!(%used_by, %name, days_left = left, "A certificate ends soon");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_counted_down_to_the_end_and_beyond() {
        let certificate = ShownCertificate {
            used_by: "mqtt.tls".into(),
            name: "CN=gw".into(),
            not_after: 40 * DAY_SECONDS,
        };
        let at = |days: i64| Timestamp::from_unix_micros(days * DAY_SECONDS * 1_000_000);
        assert_eq!(certificate.days_left(at(0)), 40);
        assert_eq!(certificate.days_left(at(39)), 1);
        assert_eq!(certificate.days_left(at(42)), -2);
        let half_a_day = Duration::from_secs(43_200);
        assert_eq!(certificate.days_left(at(40).saturating_add(half_a_day)), -1, "it has ended");
        assert_eq!(certificate.to_json(at(10))["not-after"], "1970-02-10T00:00:00.000Z");
    }
}
