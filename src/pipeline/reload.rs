//! Changes while the gateway runs: mappings, accounts, rights, certificates.
//!
//! All files are read as at the start. With one error in them nothing changes: what was valid goes on.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::SystemTime};

use parking_lot::RwLock;
use tidegate_adapter_api::{Authenticator as _, PointSet};
use tidegate_broker::access::AccessRules;
use tidegate_mapping::MappingSet;
use tidegate_model::Principal;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    listeners::{Certificates, accounts},
    uplinks::LinkCertificates,
};
use crate::{
    broker::{Accounts, BrokerHandle},
    config::{self, Config, Style},
    expiry::ShownCertificate,
    ingest::Ingest,
    status::Status,
    store::Completion,
};

/// Makes the point set of one adapter from a mapping.
pub(super) type PointsOf = Box<dyn Fn(&MappingSet) -> PointSet + Send + Sync>;
/// The adapters' point sets, and how each is made.
pub(super) type PointSenders = Vec<(PointsOf, watch::Sender<PointSet>)>;

/// When each file was last changed; no time for one that is not there.
pub(super) type Stamps = BTreeMap<PathBuf, Option<SystemTime>>;

/// Where the configuration came from, to be looked at again.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// It is embedded and never changes.
    Embedded,
}

/// Looks for changed files, and applies them.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) broker: BrokerHandle,
    pub(super) ingest: Ingest,
    pub(super) mapping: Arc<RwLock<Arc<MappingSet>>>,
    pub(super) points: PointSenders,
    pub(super) accounts: Arc<Accounts>,
    pub(super) certificates: Certificates,
    pub(super) links: LinkCertificates,
    pub(super) status: Arc<Status>,
}

impl Reloader {
    /// Returns when each file was last changed.
    pub(super) fn stamps(&self) -> Stamps {
        let Source::File(path) = &self.source else { return BTreeMap::new() };
        config::watched_paths(path)
            .into_iter()
            .map(|path| {
                let changed = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
                (path, changed.ok())
            })
            .collect()
    }

    /// Applies what has changed since `seen`.
    pub(super) fn look(&self, seen: &mut Stamps) {
        let stamps = self.stamps();
        if stamps != *seen {
            self.reload();
            *seen = stamps;
        }
    }

    fn reload(&self) {
        let Source::File(path) = &self.source else { return };
        let generation = self.mapping.read().generation() + 1;
        let error = match config::load_generation(path, generation) {
            Ok(config::Loaded { config: Some(config), mapping: Some(mapping), .. }) => {
                match self.apply(&config, mapping) {
                    Ok(()) => None,
                    Err(error) => {
                        warn!(%error, "Changed certificates cannot be used, the old ones go on");
                        Some(error.to_string())
                    }
                }
            }
            Ok(loaded) => {
                let text = config::render(&loaded.issues, &loaded.sources, Style::Plain);
                warn!("Changed files have errors, the old ones go on\n{text}");
                Some(text)
            }
            Err(error) => {
                warn!(%error, "Changed files cannot be read, the old ones go on");
                Some(error.to_string())
            }
        };
        *self.status.mapping_error.lock() = error;
    }

    /// Applies what can be applied while the gateway runs; all else in the configuration waits for a restart.
    fn apply(&self, config: &Config, mapping: MappingSet) -> Result<(), tidegate_tls::TlsError> {
        let (generation, entries) = (mapping.generation(), mapping.entries().len());
        let mapping = Arc::new(mapping);
        self.ingest.set_mapping(Arc::clone(&mapping));
        for (points_of, sender) in &self.points {
            sender.send_replace(points_of(&mapping));
        }
        *self.status.mapping_generation.lock() = generation;
        self.accounts.replace(accounts(config));
        let rules = AccessRules::new(config.access.clone());
        let mut core = self.broker.core();
        if *core.rules() != rules {
            core.set_rules(rules);
        }
        let keeps =
            |principal: &Principal| principal.is_anonymous() || self.accounts.knows(principal);
        let expelled = core.expel(keeps, self.broker.clock().steady());
        self.broker.submit(&core, expelled.transaction, Completion::None);
        drop(core);
        self.ingest.publish_wills(expelled.wills);
        self.certificates.replace(config)?;
        self.links.replace(config)?;
        *self.status.certificates.lock() = ShownCertificate::all_of(config);
        self.status.warn_of_certificates();
        info!(
            generation,
            entries, "Changed files applied: mappings, accounts, access, certificates"
        );
        Ok(())
    }
}
