//! Key, certificate and broker on disk: one file for what belongs together, each replaced as a whole.

use std::{path::PathBuf, time::Duration};

use tidegate_tls::Identity;
use zeroize::Zeroizing;

use super::{
    super::{super::link::LinkError, folder::Folder},
    pairing::BrokerAddress,
};

/// Key and certificate, in PEM.
const CREDENTIALS: &str = "credentials.pem";
/// Host and port.
const BROKER: &str = "broker";
/// A certificate is renewed when so much of its life is left: a fifth.
const LIFE_LEFT: u64 = 5;
/// … and when it has this much left at the latest, which is earlier for those that live long.
const LEFT_MAX_S: u64 = 7 * 86_400;
/// While a connection lasts, it is looked at its certificate so often at least.
const LOOK_MAX_S: u64 = 3_600;
/// More than key and certificate take up.
const TRIAL_BYTES: usize = 16 << 10;

/// What the device shows to the broker.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) identity: Identity,
    /// The certificate alone, in PEM.
    pub(super) certificate: String,
    key: Zeroizing<String>,
    is_new: bool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("is_new", &self.is_new).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Takes a certificate that was given out for a key.
    pub(super) fn new(certificate: String, key: String) -> Result<Self, LinkError> {
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes());
        let identity = identity
            .map_err(|error| LinkError::transient(format!("the certificate given out: {error}")))?;
        Ok(Self { identity, certificate, key: Zeroizing::new(key), is_new: true })
    }

    /// Returns whether it was given out just now.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns whether it should be renewed at `now`, in seconds since 1970.
    pub(super) fn ends_soon(&self, now: u64) -> bool {
        now.saturating_add(self.margin()) >= self.identity.not_after()
    }

    /// Returns whether it is worth nothing any more at `now`.
    pub(super) fn has_ended(&self, now: u64) -> bool {
        now >= self.identity.not_after()
    }

    /// Returns for how long it need not be looked at whether it is to be renewed: no longer than [`LOOK_MAX_S`], for the
    /// clock may be set.
    pub(super) fn next_look(&self, now: u64) -> Duration {
        let left = self.identity.not_after().saturating_sub(now.saturating_add(self.margin()));
        let pause = if left > 0 { left } else { self.margin() / 8 };
        Duration::from_secs(pause.clamp(1, LOOK_MAX_S))
    }

    /// Returns how long a certificate that has just been given out is kept at least while it is taken, whatever the clock
    /// here says of its end.
    pub(super) fn least(&self) -> Duration {
        Duration::from_secs(self.margin() / 2)
    }

    /// Returns how long before its end it is renewed, in seconds.
    fn margin(&self) -> u64 {
        let life = self.identity.not_after().saturating_sub(self.identity.not_before());
        (life / LIFE_LEFT).min(LEFT_MAX_S)
    }
}

/// The folder of one device.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: Folder,
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder: Folder::new(folder) }
    }

    /// Returns what is kept for a device of this name; what belongs to another, or is damaged, counts as missing.
    pub(super) async fn credentials(&self, name: &str) -> Result<Option<Credentials>, LinkError> {
        let Some(text) = self.folder.read(CREDENTIALS).await? else { return Ok(None) };
        let Some(at) = text.find("-----BEGIN CERTIFICATE-----") else { return Ok(None) };
        let (key, certificate) = text.split_at(at);
        let Ok(kept) = Credentials::new(certificate.to_owned(), key.to_owned()) else {
            return Ok(None);
        };
        let common_name = format!("CN={name}");
        let is_ours = kept.identity.names().iter().any(|it| it.as_str() == common_name);
        Ok(is_ours.then_some(Credentials { is_new: false, ..kept }))
    }

    /// Keeps key and certificate; both are on disk when it returns.
    pub(super) async fn keep_credentials(&self, made: &Credentials) -> Result<(), LinkError> {
        let text = Zeroizing::new(format!("{}\n{}", made.key.trim(), made.certificate));
        self.folder.write(CREDENTIALS, text).await
    }

    /// Makes sure that key and certificate could be kept: whoever asks for new ones has lost those before.
    pub(super) async fn rehearse(&self) -> Result<(), LinkError> {
        self.folder.rehearse(CREDENTIALS, TRIAL_BYTES).await
    }

    pub(super) async fn forget_credentials(&self) -> Result<(), LinkError> {
        self.folder.remove(CREDENTIALS).await
    }

    /// Returns where the broker was last.
    pub(super) async fn broker(&self) -> Result<Option<BrokerAddress>, LinkError> {
        let text = self.folder.read(BROKER).await?;
        Ok(text.and_then(|text| BrokerAddress::parse(text.trim())))
    }

    pub(super) async fn keep_broker(&self, broker: &BrokerAddress) -> Result<(), LinkError> {
        self.folder.write(BROKER, Zeroizing::new(broker.to_string())).await
    }

    /// Returns whether it was said so long ago, or nobody knows when.
    pub(super) async fn broker_is_older_than(&self, age: Duration) -> Result<bool, LinkError> {
        self.folder.is_older_than(BROKER, age).await
    }

    pub(super) async fn forget_broker(&self) -> Result<(), LinkError> {
        self.folder.remove(BROKER).await
    }
}
