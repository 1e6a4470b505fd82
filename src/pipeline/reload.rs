//! Changes while the gateway runs: mappings, accounts, rights, certificates, logins of uplinks.
//!
//! All files are read as at the start. With one error in them nothing changes: what was valid goes on.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tidegate_adapter_api::{Authenticator as _, PointSet};
use tidegate_broker::access::AccessRules;
use tidegate_mapping::MappingSet;
use tidegate_model::{CredentialId, Principal};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{
    credentials::LinkCredentials,
    gates::Gates,
    listeners::{Certificates, accounts, issuers},
};
use crate::{
    broker::{Accounts, BrokerHandle, CoreGuard},
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

/// What tells a change of each file; nothing for one that is not there.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// A file was replaced if the device or the number differ, and written to if the rest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Where the configuration came from, to be looked at again.
#[derive(Clone, Debug)]
pub struct Source {
    path: Option<PathBuf>,
    /// The files as they were before they were read.
    read: Stamps,
}

impl Source {
    /// A file. To be made before it is read, so that no change is missed.
    pub fn file(path: PathBuf) -> Self {
        let read = stamps(&path);
        Self { path: Some(path), read }
    }

    /// Returns the file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// It is embedded and never changes.
    pub fn embedded() -> Self {
        Self { path: None, read: Stamps::new() }
    }
}

fn stamps(path: &Path) -> Stamps {
    let stamp = |path: &Path| {
        let status = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: status.dev(),
            inode: status.ino(),
            bytes: status.len(),
            modified: (status.mtime(), status.mtime_nsec()),
            changed: (status.ctime(), status.ctime_nsec()),
        })
    };
    config::watched_paths(path).into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

/// Looks for changed files, and applies them.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) seen: Mutex<Seen>,
    pub(super) broker: BrokerHandle,
    pub(super) ingest: Ingest,
    pub(super) mapping: Arc<RwLock<Arc<MappingSet>>>,
    pub(super) points: PointSenders,
    pub(super) accounts: Arc<Accounts>,
    /// The accounts under which connections were looked at last.
    pub(super) expelled: AtomicU64,
    pub(super) certificates: Certificates,
    pub(super) gates: Gates,
    pub(super) links: LinkCredentials,
    pub(super) status: Arc<Status>,
}

/// What a [`Reloader`] has seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// The files that were read last.
    read: Stamps,
    /// The files at the last look.
    last: Stamps,
}

impl Seen {
    /// The files of a source as they were read.
    pub(super) fn of(source: &Source) -> Self {
        Self { read: source.read.clone(), last: source.read.clone() }
    }
}

impl Reloader {
    /// Applies what has changed, once two looks have found the same: a file that is being written is left alone.
    pub(super) fn look(&self) {
        if self.accounts.version() != self.expelled.load(Ordering::Relaxed) {
            // Keys of an issuer were fetched that are others than before.
            self.expel(self.broker.core());
        }
        let Some(path) = &self.source.path else { return };
        let found = stamps(path);
        let mut seen = self.seen.lock();
        let is_settled = found == seen.last;
        if is_settled && found != seen.read {
            self.reload(path);
            seen.read = found;
        } else {
            seen.last = found;
        }
    }

    /// Reads all files again and applies them, whether they have changed or not. Waits for the disk.
    ///
    /// # Errors
    ///
    /// Says what is wrong with them; then nothing changes.
    pub(super) fn reload_now(&self) -> Result<(), String> {
        let Some(path) = &self.source.path else { return Ok(()) };
        let mut seen = self.seen.lock();
        let found = stamps(path);
        self.reload(path);
        *seen = Seen { read: found.clone(), last: found };
        self.status.mapping_error.lock().clone().map_or(Ok(()), Err)
    }

    /// Cuts the connections whose credential is no longer good.
    /// Drops what is left of principals that were removed while the gateway was down: nothing of them is published.
    pub(super) fn expel_at_start(&self) {
        self.expel(self.broker.core());
    }

    fn expel(&self, mut core: CoreGuard<'_>) {
        self.expelled.store(self.accounts.version(), Ordering::Relaxed);
        let keeps = |principal: &Principal, credential: Option<CredentialId>| {
            principal.is_anonymous()
                || match credential {
                    Some(credential) => self.accounts.has(principal, credential),
                    None => self.accounts.knows(principal),
                }
        };
        let expelled = core.expel(keeps, self.broker.clock().steady());
        self.broker.submit_all(&core, expelled, Completion::None);
    }

    fn reload(&self, path: &Path) {
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
        // What can fail comes first, so that all of it is applied or nothing.
        let certificates = self.certificates.prepare(config)?;
        let links = self.links.prepare(config)?;
        let (generation, entries) = (mapping.generation(), mapping.entries().len());
        let mapping = Arc::new(mapping);
        self.ingest.set_mapping(Arc::clone(&mapping));
        for (points_of, sender) in &self.points {
            sender.send_replace(points_of(&mapping));
        }
        *self.status.mapping_generation.lock() = generation;
        let issuers = issuers(config, &self.accounts.issuers());
        self.accounts.replace(accounts(config), issuers);
        let mut core = self.broker.core();
        if core.rules().entries() != config.access {
            core.set_rules(AccessRules::new(config.access.clone()));
        }
        self.expel(core);
        for (tls, prepared) in certificates {
            tls.set(prepared);
        }
        for link in links {
            link.set();
        }
        // Last: who comes in finds everything in place.
        self.gates.set(config);
        *self.status.certificates.lock() = ShownCertificate::all_of(config);
        self.status.warn_of_certificates();
        info!(
            generation,
            entries,
            "Changed files applied: mappings, accounts, access, certificates, logins of uplinks"
        );
        Ok(())
    }
}
