//! The names in a certificate.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use tidegate_model::{PeerName, PeerNames};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::DB;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::TlsError;

/// Reads the names of a certificate that was verified.
///
/// # Errors
///
/// [`TlsError::Certificate`] if it is malformed.
pub fn names_in(certificate: &CertificateDer<'_>) -> Result<PeerNames, TlsError> {
    let parsed = Certificate::from_der(certificate)
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    Ok(names_of(&parsed))
}

/// Attributes and alternative names that are no text are left out: no principal can be written for them.
pub(crate) fn names_of(certificate: &Certificate) -> PeerNames {
    let mut names = Vec::new();
    for set in &certificate.tbs_certificate.subject.0 {
        for attribute in set.0.iter() {
            let value = &attribute.value;
            let text = Utf8StringRef::try_from(value).map(|text| text.as_str().to_owned());
            let text = text
                .or_else(|_| PrintableStringRef::try_from(value).map(|t| t.as_str().to_owned()))
                .or_else(|_| Ia5StringRef::try_from(value).map(|text| text.as_str().to_owned()));
            let kind = DB.find_names_for_oid(attribute.oid).min_by_key(|name| name.len());
            if let (Ok(text), Some(kind)) = (text, kind) {
                names.push(format!("{}={text}", kind.to_ascii_uppercase()));
            }
        }
    }
    if let Ok(Some((_, SubjectAltName(alternatives)))) = certificate.tbs_certificate.get() {
        names.extend(alternatives.iter().filter_map(alternative));
    }
    names.iter().filter_map(|name| PeerName::new(name).ok()).collect()
}

fn alternative(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(format!("DNS:{name}")),
        GeneralName::UniformResourceIdentifier(uri) => Some(format!("URI:{uri}")),
        GeneralName::Rfc822Name(address) => Some(format!("EMAIL:{address}")),
        GeneralName::IpAddress(address) => {
            let bytes = address.as_bytes();
            let text = match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
                (Ok(four), _) => Ipv4Addr::from(four).to_string(),
                (_, Ok(sixteen)) => Ipv6Addr::from(sixteen).to_string(),
                _ => return None,
            };
            Some(format!("IP:{text}"))
        }
        _ => None,
    }
}
