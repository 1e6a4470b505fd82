//! What links believe and show, to be replaced while they are used.

use std::{collections::BTreeMap, sync::Arc};

use tidegate_tls::{ClientPrepared, ClientSetup, ClientTls, TlsError, Trust};
use tidegate_uplink::HubSettings;
use tokio::sync::Notify;

use crate::{
    config::{Config, EndpointConfig, LinkUrl, UplinkConfig, UplinkTls},
    uplink::{Dialect, Endpoint, LinkSettings, Login, Replaceable},
};

/// What all links believe and show by the name of the uplink, one for each far side, to be replaced while it is used.
#[derive(Debug, Default)]
pub(super) struct LinkCredentials(BTreeMap<String, Used>);

/// What one uplink's connections take from.
#[derive(Debug)]
struct Used {
    /// How the uplink is told that something was replaced.
    renewed: Arc<Notify>,
    /// Its far sides as the configuration names them.
    ends: Vec<(LinkUrl, Endpoint)>,
    /// The device of Azure IoT Hub, if it is one.
    hub: Option<Replaceable<Arc<HubSettings>>>,
}

/// What the connections to one far side are to believe and show from now on.
pub(super) struct LinkPrepared<'l> {
    used: &'l Used,
    link: &'l Endpoint,
    uplink: &'l UplinkConfig,
    tls: Option<(&'l Arc<ClientTls>, ClientPrepared)>,
    login: Option<Login>,
    token: Option<String>,
    hub: Option<Arc<HubSettings>>,
}

impl LinkCredentials {
    /// Adds those of one uplink.
    pub(super) fn add(&mut self, uplink: &UplinkConfig, link: &LinkSettings) {
        let urls = uplink.link.endpoints.iter().map(|endpoint| endpoint.url.clone());
        let used = Used {
            renewed: Arc::clone(&link.renewed),
            ends: urls.zip(link.endpoints.iter().cloned()).collect(),
            hub: match &link.dialect {
                Some(Dialect::IotHub(hub)) => Some(hub.clone()),
                _ => None,
            },
        };
        self.0.insert(uplink.name.to_string(), used);
    }

    /// Prepares those of another configuration, to be set from the next connections on.
    pub(super) fn prepare<'l>(
        &'l self,
        config: &'l Config,
    ) -> Result<Vec<LinkPrepared<'l>>, TlsError> {
        let mut links = Vec::new();
        for uplink in &config.uplinks {
            let Some(used) = self.0.get(uplink.name.as_str()) else { continue };
            let hub = used.hub_as_of(uplink);
            for ((url, link), endpoint) in used.ends.iter().zip(&uplink.link.endpoints) {
                // What is meant for another far side waits for the restart that brings it.
                if *url != endpoint.url {
                    continue;
                }
                let tls = link.tls.as_ref().zip(endpoint.tls.as_ref());
                let tls = tls.map(|(used, tls)| {
                    let prepared = ClientPrepared::new(client_setup(tls)?)?;
                    Ok::<_, TlsError>((used, prepared))
                });
                let (login, token) = (login(uplink, endpoint), token(endpoint));
                links.push(LinkPrepared {
                    used,
                    link,
                    uplink,
                    tls: tls.transpose()?,
                    login,
                    token,
                    hub: hub.clone(),
                });
            }
        }
        Ok(links)
    }
}

impl Used {
    /// Returns the device with how it logs in from now on; nothing if it is meant for another device or hub, which waits for
    /// the restart, as whether commands come does.
    fn hub_as_of(&self, uplink: &UplinkConfig) -> Option<Arc<HubSettings>> {
        let (used, hub) = (self.hub.as_ref()?.get(), uplink.link.hub.as_ref()?);
        let urls = uplink.link.endpoints.iter().map(|endpoint| &endpoint.url);
        let is_same = used.device == hub.device
            && used.hub == hub.hub
            && self.ends.iter().map(|(url, _)| url).eq(urls);
        let signer = hub.signer.clone();
        is_same.then(|| Arc::new(HubSettings { signer, ..(*used).clone() }))
    }
}

impl LinkPrepared<'_> {
    /// Has the next connections use it.
    pub(super) fn set(self) {
        if let Some((tls, prepared)) = self.tls {
            tls.set(prepared);
        }
        if let Some(http) = &self.link.http {
            http.token.set(self.token);
        }
        if let Some(request) = &self.link.websocket {
            request.headers.set(headers(self.uplink));
            request.signer.set(self.uplink.link.aws.signer.clone());
        }
        if let Some((place, hub)) = self.used.hub.as_ref().zip(self.hub) {
            place.set(hub);
        }
        self.link.login.set(self.login);
        self.used.renewed.notify_one();
    }
}

/// Returns as whom to log in at a far side.
pub(super) fn login(uplink: &UplinkConfig, endpoint: &EndpointConfig) -> Option<Login> {
    let board = uplink.thingsboard.as_ref();
    if let Some(token) = board.and_then(|board| board.access_token.as_ref()) {
        let username = token.expose().trim().to_owned();
        return Some(Login { username, password: String::new() });
    }
    let login = endpoint.login.as_ref().map(|login| {
        let password = login.password.as_ref().map(|password| password.expose().to_owned());
        Login { username: login.username.clone(), password: password.unwrap_or_default() }
    });
    match &uplink.link.aws.authorizer {
        // A custom authorizer of AWS IoT Core hears what it wants to know behind the user name, or else in headers.
        Some(authorizer) if endpoint.url.websocket_path().is_none() => {
            let own = login.map(|login| (login.username, login.password));
            let (own, password) = own.unwrap_or_default();
            Some(Login { username: authorizer.user_name(&own), password })
        }
        _ => login,
    }
}

/// Returns the token that is shown to a server of HTTP.
pub(super) fn token(endpoint: &EndpointConfig) -> Option<String> {
    endpoint.token.as_ref().map(|token| token.expose().trim().to_owned())
}

/// Returns what a link believes and shows; without `ca` it believes the authorities of the operating system.
pub(super) fn client_setup(tls: &UplinkTls) -> Result<ClientSetup, TlsError> {
    let trust = match &tls.trust {
        Some(trust) => trust.clone(),
        None => Trust::of_system(rustls_native_certs::load_native_certs().certs)?,
    };
    let protocols = tls.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(ClientSetup { trust, identity: tls.identity.clone(), protocols })
}

/// Returns what a request for WebSocket frames says to a custom authorizer of AWS IoT Core.
pub(super) fn headers(uplink: &UplinkConfig) -> Vec<(String, String)> {
    let authorizer = uplink.link.aws.authorizer.as_ref();
    authorizer.map(|authorizer| authorizer.headers()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;
    use crate::config;

    /// Returns an uplink to a hub, whose tokens live so long.
    fn uplink(url: &str, device: &str, lifetime_s: u32) -> UplinkConfig {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("hub.key");
        fs::write(&key, "c2VjcmV0").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[[uplink]]\nname = \"hub\"\n\
             profile = \"azure-iot-hub\"\nurl = \"{url}\"\ntopics = [\"a/#\"]\n\
             [uplink.azure-iot-hub]\n{device}\nlifetime = \"{lifetime_s}s\"\n\
             shared-access-key = {{ file = \"hub.key\" }}\n"
        );
        let path = folder.path().join("tidegate.toml");
        fs::write(&path, text).unwrap();
        let loaded = config::load(&path).unwrap();
        let issues = format!("{:?}", loaded.issues);
        loaded.config.expect(&issues).uplinks.remove(0)
    }

    /// uplink.32: a key for another hub or device waits for the restart that brings it.
    #[test]
    fn uplink_32_keys_are_those_of_the_device_that_is_connected() {
        let (url, device) = ("mqtts://edge.example", "device = \"gw-1\"\nhub = \"a.example\"");
        let first = uplink(url, device, 60);
        let end = Endpoint {
            host: "edge.example".to_owned(),
            port: 8883,
            tls: None,
            websocket: None,
            http: None,
            amqp: None,
            login: Replaceable::default(),
        };
        let used = Used {
            renewed: Arc::default(),
            ends: vec![(first.link.endpoints[0].url.clone(), end)],
            hub: first.link.hub.clone().map(Replaceable::new),
        };
        let lifetime = |url: &str, device: &str| {
            let hub = used.hub_as_of(&uplink(url, device, 120))?;
            Some(hub.signer.as_ref()?.lifetime)
        };
        assert_eq!(lifetime(url, device), Some(Duration::from_secs(120)));
        assert_eq!(lifetime("mqtts://other.example", device), None);
        assert_eq!(lifetime(url, "device = \"gw-1\"\nhub = \"b.example\""), None);
        assert_eq!(lifetime(url, "device = \"gw-2\"\nhub = \"a.example\""), None);
    }
}
