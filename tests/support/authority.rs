//! A plant's own authority, and the certificates it gives out.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ED25519, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

/// An authority.
#[derive(Debug)]
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are sound"))
    }

    /// Returns the authority's own certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Makes a certificate with this common name, for this machine.
    pub(crate) fn issue(&self, name: &str, serial: u64) -> Pair {
        self.issue_for(name, serial, &["localhost", "127.0.0.1"])
    }

    /// Makes a certificate with this common name, for these hosts and addresses.
    pub(crate) fn issue_for(&self, name: &str, serial: u64, hosts: &[&str]) -> Pair {
        self.issue_with(KeyPair::generate(), name, serial, hosts)
    }

    /// As [`issue_for`](Self::issue_for), with a key of Ed25519 instead of P-256.
    pub(crate) fn issue_edwards(&self, name: &str, serial: u64, hosts: &[&str]) -> Pair {
        self.issue_with(KeyPair::generate_for(&PKCS_ED25519), name, serial, hosts)
    }

    /// As [`issue`](Self::issue), of a certificate that ended long ago.
    pub(crate) fn issue_expired(&self, name: &str, serial: u64) -> Pair {
        let mut params = params(name, serial, &["localhost", "127.0.0.1"]);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(KeyPair::generate(), &params)
    }

    fn issue_with(
        &self,
        key: Result<KeyPair, rcgen::Error>,
        name: &str,
        serial: u64,
        hosts: &[&str],
    ) -> Pair {
        self.sign(key, &params(name, serial, hosts))
    }

    fn sign(&self, key: Result<KeyPair, rcgen::Error>, params: &CertificateParams) -> Pair {
        let key = key.expect("a key can be made");
        let cert = params.signed_by(&key, &self.0).expect("the parameters are sound");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Makes a list of revoked certificates.
    pub(crate) fn revoke(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("the parameters are sound");
        list.pem().expect("a list can be written")
    }
}

/// Returns what stands in a certificate.
fn params(name: &str, serial: u64, hosts: &[&str]) -> CertificateParams {
    let hosts = hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(hosts).expect("hosts are names or addresses");
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

impl Pair {
    /// Makes a certificate that nobody but its own key vouches for.
    pub(crate) fn self_signed(name: &str, serial: u64) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let params = params(name, serial, &["localhost", "127.0.0.1"]);
        let cert = params.self_signed(&key).expect("the parameters are sound");
        Self { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Writes `NAME.pem` and `NAME.key`, for the owner alone, and returns their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> [String; 2] {
        let cert = write(folder, &format!("{name}.pem"), &self.cert);
        [cert, write(folder, &format!("{name}.key"), &self.key)]
    }
}

/// Writes a file for the owner alone, in one step, and returns its path.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&new, text).expect("a temporary folder takes files");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    fs::rename(&new, &path).expect("the folder is ours");
    path.display().to_string()
}
