//! Which of several certificates a client is shown, by the name it asks for (RFC 6066, section 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::Identity;

/// Certificates by the host names that stand in them.
#[derive(Debug)]
pub(crate) struct ByName {
    /// In the order in which they are tried for a client that asks for no name that is known.
    all: Vec<Arc<CertifiedKey>>,
    /// By whole name, or by what follows `*` in one: `.plant.example`.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    /// Takes the certificates; the first is the one to show where none has the name.
    pub(crate) fn new<'i>(identities: impl IntoIterator<Item = &'i Identity>) -> Self {
        let mut by_name = Self { all: Vec::new(), named: HashMap::new() };
        for identity in identities {
            let key = &identity.key;
            by_name.all.push(Arc::clone(key));
            for name in identity.names().iter() {
                let Some(name) = name.as_str().strip_prefix("DNS:") else { continue };
                let name = name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
                by_name.named.entry(name).or_default().push(Arc::clone(key));
            }
        }
        by_name
    }

    /// Returns the certificates for a name, the best first.
    fn for_name(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let whole = self.named.get(name);
        // A wildcard stands for one label (RFC 9525, section 6.3).
        let below = name.find('.').and_then(|dot| self.named.get(&name[dot..]));
        whole.into_iter().chain(below).flatten()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let found = self.for_name(&name).find(usable).or_else(|| self.all.iter().find(usable));
        // Without a common signature rustls refuses the client, and says so.
        found.or(self.all.first()).cloned()
    }
}
