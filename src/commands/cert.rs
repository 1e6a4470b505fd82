//! `tidegate cert`: a plant's own authority, and certificates for the gateway and its devices.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use tidegate_model::Principal;
use tidegate_tls::{Authority, Identity, Issued, Purpose, Validity};

use crate::secret_file::{self, Owner};

/// For how many days an authority is valid: as long as a plant's machines.
const AUTHORITY_DAYS: u32 = 3_650;
/// For how many days a certificate is valid: browsers and phones refuse more.
const DAYS_DEFAULT: u32 = 825;
/// The name of the gateway's own certificate.
const SERVER: &str = "server";
/// The name of the authority.
const CA: &str = "ca";

/// Arguments of `tidegate cert`.
#[derive(Debug, clap::Args)]
pub(super) struct CertArguments {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Make an authority and the gateway's certificate, and print the tables that name them.
    #[command(
        after_help = "Example:\n  tidegate cert init --dir /etc/tidegate/certs --host gw.plant.example --host 192.0.2.1"
    )]
    Init {
        #[command(flatten)]
        place: Place,
        /// The authority's name, as others see it in its certificate.
        #[arg(long, default_value = "Tidegate plant authority")]
        name: String,
        /// A host name or address under which clients reach the gateway, besides this host's name, `localhost` and
        /// 127.0.0.1; may be given several times.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
    },
    /// Make a device's certificate, and print the table that names it.
    #[command(after_help = "Example:\n  tidegate cert device press-7 --dir /etc/tidegate/certs")]
    Device {
        /// The name of the device and of its principal.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Replace a certificate by one with the same names, a new key and a new end; a running gateway uses it at once.
    #[command(after_help = "Example:\n  tidegate cert renew server --dir /etc/tidegate/certs")]
    Renew {
        /// `server`, or the name of a device.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The folder of the authority and what it has given out.
    #[arg(long, default_value = "certs", value_name = "DIR")]
    dir: PathBuf,
    /// For how many days the certificate is valid.
    #[arg(long, default_value_t = DAYS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

impl Place {
    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{name}.{extension}"))
    }

    fn validity(&self) -> anyhow::Result<Validity> {
        Ok(Validity { now: now()?, days: self.days })
    }

    fn authority(&self) -> anyhow::Result<Authority> {
        let hint = || format!("`tidegate cert init --dir {}` makes one", self.dir.display());
        let certificate = read(&self.file(CA, "pem")).with_context(hint)?;
        let key = read(&self.file(CA, "key")).with_context(hint)?;
        Authority::from_pem(&certificate, &key)
            .with_context(|| format!("the authority in {}", self.dir.display()))
    }

    fn create(&self, name: &str, issued: &Issued) -> anyhow::Result<()> {
        // The gateway reads every certificate, and of the keys its own alone.
        let owner = if name == SERVER { Owner::OfFolder } else { Owner::Maker };
        secret_file::create(&self.file(name, "key"), issued.key.as_bytes(), owner)?;
        secret_file::create(&self.file(name, "pem"), issued.certificate.as_bytes(), Owner::OfFolder)
    }
}

/// Carries out one of the commands.
pub(super) fn cert(arguments: &CertArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        CertCommand::Init { place, name, host } => init(place, name, host),
        CertCommand::Device { name, place } => device(name, place),
        CertCommand::Renew { name, place } => renew(name, place),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn init(place: &Place, name: &str, more_hosts: &[String]) -> anyhow::Result<()> {
    for name in [CA, SERVER] {
        let file = place.file(name, "pem");
        ensure!(!file.exists(), "{} is there already; nothing was made", file.display());
    }
    let validity = Validity { now: now()?, days: AUTHORITY_DAYS };
    let (authority, own) = Authority::create(name, validity).context("the authority")?;
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    hosts.extend(host_name());
    hosts.extend_from_slice(more_hosts);
    hosts.sort();
    hosts.dedup();
    let purpose = Purpose::Server(hosts.clone());
    let server = authority.issue(SERVER, &purpose, place.validity()?).context("the server")?;
    secret_file::make_folder(&place.dir)?;
    place.create(CA, &own)?;
    place.create(SERVER, &server)?;
    let file = |name, extension| place.file(name, extension).display().to_string();
    println!(
        "# For the gateway, under the names {}; clients get {} to know it by.\n\
         [mqtt.tls]\nlisten = [\"0.0.0.0:8883\"]\ncert = \"{}\"\nkey = {{ file = \"{}\" }}\nclient-ca = \"{}\"",
        hosts.join(", "),
        file(CA, "pem"),
        file(SERVER, "pem"),
        file(SERVER, "key"),
        file(CA, "pem"),
    );
    eprintln!(
        "{} gives out certificates: keep it from everybody, best away from this machine.",
        file(CA, "key")
    );
    Ok(())
}

fn device(name: &str, place: &Place) -> anyhow::Result<()> {
    check_device(name)?;
    let issued = place.authority()?.issue(name, &Purpose::Device, place.validity()?)?;
    place.create(name, &issued)?;
    let file = |name, extension| place.file(name, extension).display().to_string();
    println!(
        "# For the device: {}, {} and {}.\n[[principal]]\nname = \"{name}\"\ncertificate = \"CN={name}\"",
        file(name, "pem"),
        file(name, "key"),
        file(CA, "pem"),
    );
    Ok(())
}

fn renew(name: &str, place: &Place) -> anyhow::Result<()> {
    let authority = place.authority()?;
    let (certificate, key) = (place.file(name, "pem"), place.file(name, "key"));
    let old = Identity::from_pem(read(&certificate)?.as_bytes(), read(&key)?.as_bytes())
        .with_context(|| format!("the certificate of `{name}`"))?;
    let purpose = if name == SERVER {
        let hosts = old.names().iter().filter_map(|name| {
            name.as_str().strip_prefix("DNS:").or(name.as_str().strip_prefix("IP:"))
        });
        Purpose::Server(hosts.map(str::to_owned).collect())
    } else {
        check_device(name)?;
        Purpose::Device
    };
    let issued = authority.issue(name, &purpose, place.validity()?)?;
    secret_file::replace(&[
        (&key, issued.key.as_bytes()),
        (&certificate, issued.certificate.as_bytes()),
    ])?;
    println!("{} and {} are valid for {} days", certificate.display(), key.display(), place.days);
    Ok(())
}

/// Checks that a name can be a principal's and a file's.
fn check_device(name: &str) -> anyhow::Result<()> {
    Principal::new(name).with_context(|| format!("the name `{name}`"))?;
    ensure!(
        !name.contains(['/', '+', '#', '*', ',', '=', '"', '\\']) && !name.starts_with('.'),
        "the name `{name}` must not contain `/`, `+`, `#`, `*`, `,`, `=`, quotes or backslashes, or begin with a dot"
    );
    ensure!(name != CA && name != SERVER, "the name `{name}` is taken by the gateway's own files");
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_name.then_some(name)
}

fn now() -> anyhow::Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(i64::try_from(since.as_secs())?)
}
