//! The gateway's own certificate, and which server certificates it trusts.
//!
//! Trust is by exact certificate: a file in `trusted/`. What a server shows and nobody has trusted is kept
//! in `rejected/` for a person to look at and move; a file in `trusted/` always wins.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use opcua::{
    crypto::{CertificateStore, X509, X509Data},
    types::ByteString,
};

use crate::error::LinkError;

/// Certificates that wait in `rejected/`; the oldest make room.
const REJECTED_MAX: usize = 32;
/// Ten years; a gateway's own certificate is pinned by servers and renewed by hand.
const OWN_CERTIFICATE_DAYS: u32 = 3_650;
/// Longest server certificate that is looked at.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// Adapters share the directory; only one of them may make the keys.
static MAKING: Mutex<()> = Mutex::new(());

/// The directory with the gateway's certificate and the servers' ones.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// Takes a directory; nothing is touched yet.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Returns the file of the gateway's own certificate, where the library looks for it.
    fn certificate(&self) -> PathBuf {
        self.directory.join("own/cert.der")
    }

    /// Returns the file of its private key, where the library looks for it.
    fn private_key(&self) -> PathBuf {
        self.directory.join("private/private.pem")
    }

    /// Makes the folders, and a key pair if there is none. Blocks for up to seconds.
    pub(crate) fn prepare(&self, application_uri: &str) -> Result<(), LinkError> {
        let _guard = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in ["own", "private", "trusted", "rejected"] {
            let folder = self.directory.join(folder);
            make_private_folder(&folder).map_err(|error| store_error(&folder, &error))?;
        }
        let (certificate, key) = (self.certificate(), self.private_key());
        match (certificate.exists(), key.exists()) {
            (true, true) => return Ok(()),
            (false, false) => {}
            (has_certificate, _) => {
                let missing = if has_certificate { &key } else { &certificate };
                let reason = format!("{} is missing beside its partner", missing.display());
                return Err(LinkError::Store { reason });
            }
        }
        let data = own_certificate(application_uri);
        CertificateStore::create_certificate_and_key(&data, false, &certificate, &key)
            .map_err(|reason| LinkError::Store { reason })?;
        make_private(&key).map_err(|error| store_error(&key, &error))
    }

    /// Checks that an operator has trusted the certificate; if not, keeps it for one to see.
    pub(crate) fn check(&self, shown: &ByteString) -> Result<(), LinkError> {
        let refused = |reason: String| LinkError::Refused { reason };
        if shown.len() > CERTIFICATE_BYTES_MAX {
            return Err(refused(format!(
                "its certificate is longer than {CERTIFICATE_BYTES_MAX} bytes"
            )));
        }
        let certificate = X509::from_byte_string(shown)
            .map_err(|_| refused("its certificate cannot be read".to_owned()))?;
        let name = CertificateStore::cert_file_name(&certificate);
        let (trusted, rejected) = (
            self.directory.join("trusted").join(&name),
            self.directory.join("rejected").join(&name),
        );
        let is_trusted = fs::read(&trusted)
            .is_ok_and(|bytes| Some(&bytes) == certificate.to_der().ok().as_ref());
        if is_trusted {
            // The library would let the rejected copy win.
            let _ = fs::remove_file(&rejected);
            return Ok(());
        }
        if !rejected.exists() {
            self.make_room_in_rejected();
            CertificateStore::new(&self.directory)
                .store_rejected_cert(&certificate)
                .map_err(|reason| LinkError::Store { reason })?;
        }
        Err(refused(format!(
            "its certificate `{}` (SHA-1 {}) is not trusted; to trust it, move {} to {}",
            printable(&certificate.subject_name()),
            certificate.thumbprint().as_hex_string(),
            printable(&rejected.display().to_string()),
            printable(&trusted.display().to_string()),
        )))
    }

    fn make_room_in_rejected(&self) {
        let Ok(entries) = fs::read_dir(self.directory.join("rejected")) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = (files.len() + 1).saturating_sub(REJECTED_MAX);
        for (_, path) in files.iter().take(surplus) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Leaves out what would break a line of a log; the name is the server's own choice.
fn printable(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(400).collect()
}

fn store_error(path: &Path, error: &io::Error) -> LinkError {
    LinkError::Store { reason: format!("{}: {error}", path.display()) }
}

/// Describes the gateway's certificate (OPC 10000-6, section 6.2.2).
fn own_certificate(application_uri: &str) -> X509Data {
    X509Data {
        key_size: 2_048,
        common_name: "Tidegate".to_owned(),
        organization: "Tidegate".to_owned(),
        organizational_unit: String::new(),
        country: String::new(),
        state: String::new(),
        alt_host_names: X509Data::alt_host_names(application_uri, None, false, true, false),
        certificate_duration_days: OWN_CERTIFICATE_DAYS,
    }
}

#[cfg(unix)]
fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(not(unix))]
fn make_private(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "urn:press-hall-1:tidegate";

    #[test]
    fn keys_are_made_once_and_stay_private() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path());
        pki.prepare(URI).unwrap();
        let certificate = fs::read(pki.certificate()).unwrap();
        let parsed = X509::from_der(&certificate).unwrap();
        assert!(parsed.is_application_uri_valid(URI).is_ok());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                fs::metadata(pki.private_key()).unwrap().permissions().mode() & 0o777,
                0o600
            );
            let private = fs::metadata(folder.path().join("private")).unwrap();
            assert_eq!(private.permissions().mode() & 0o777, 0o700);
        }
        pki.prepare(URI).unwrap();
        assert_eq!(fs::read(pki.certificate()).unwrap(), certificate);

        fs::remove_file(pki.private_key()).unwrap();
        assert!(pki.prepare(URI).unwrap_err().to_string().contains("private.pem is missing"));
    }

    #[test]
    fn fault_o07_a_certificate_is_trusted_by_moving_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path());
        pki.prepare(URI).unwrap();
        let shown = ByteString::from(fs::read(pki.certificate()).unwrap());
        let rejected = || fs::read_dir(folder.path().join("rejected")).unwrap().flatten().next();

        let error = pki.check(&shown).unwrap_err();
        assert!(!error.to_string().is_empty() && matches!(error, LinkError::Refused { .. }));
        let file = rejected().unwrap();
        fs::copy(file.path(), folder.path().join("trusted").join(file.file_name())).unwrap();
        pki.check(&shown).unwrap();
        assert!(rejected().is_none(), "the copy in rejected/ would win in the library");

        fs::write(folder.path().join("trusted").join(file.file_name()), b"another").unwrap();
        assert!(matches!(pki.check(&shown), Err(LinkError::Refused { .. })));
    }

    #[test]
    fn rejected_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path());
        pki.prepare(URI).unwrap();
        for number in 0..2 * REJECTED_MAX {
            fs::write(folder.path().join(format!("rejected/{number}.der")), b"x").unwrap();
        }
        let shown = ByteString::from(fs::read(pki.certificate()).unwrap());
        pki.check(&shown).unwrap_err();
        assert_eq!(fs::read_dir(folder.path().join("rejected")).unwrap().count(), REJECTED_MAX);
        let huge = ByteString::from(vec![0_u8; CERTIFICATE_BYTES_MAX + 1]);
        assert!(pki.check(&huge).unwrap_err().to_string().contains("longer"));
        assert!(pki.check(&ByteString::from(vec![0x30, 0x03])).is_err());
    }
}
