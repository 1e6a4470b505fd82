//! `tidegate user`: accounts and their passwords.

mod list;
mod remove;

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use ring::rand::{SecureRandom as _, SystemRandom};
use tidegate_scram::{ITERATIONS, ITERATIONS_DEFAULT, SALT_BYTES, Verifier};
use zeroize::Zeroizing;

use super::ConfigArguments;
use crate::{
    broker::{NoRandomBytes, hash_password},
    secret_file::{self, Owner},
};

/// The ends of the names of the files that belong to an account.
const HASH: &str = "hash";
const SCRAM: &str = "scram";

/// Arguments of `tidegate user`.
#[derive(Debug, clap::Args)]
pub(super) struct UserArguments {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Hash a password into a file and print the table that names it.
    #[command(
        after_help = "Example:\n  tidegate user add press-7 --secrets /etc/tidegate/secrets < password.txt"
    )]
    Add {
        #[command(flatten)]
        account: Account,
    },
    /// Replace the password of an account in the files that are there; a running gateway asks for the new one at once.
    #[command(
        after_help = "Example:\n  tidegate user password press-7 --secrets /etc/tidegate/secrets < password.txt"
    )]
    Password {
        #[command(flatten)]
        account: Account,
    },
    /// Show who may log in, by what, and what is wrong with it.
    #[command(after_help = "Example:\n  tidegate user list -c tidegate.toml")]
    List {
        #[command(flatten)]
        config: ConfigArguments,
        /// Print the list as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove the files of an account that the configuration does not name any more, and say where it names the
    /// account.
    #[command(
        after_help = "Example:\n  tidegate user remove press-7 -c tidegate.toml --secrets /etc/tidegate/secrets"
    )]
    Remove {
        /// The name of the account.
        name: String,
        #[command(flatten)]
        config: ConfigArguments,
        /// The folder of the hashes.
        #[arg(long, default_value = "secrets", value_name = "DIR")]
        secrets: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Account {
    /// The name of the account.
    name: String,
    /// The folder for the hash; made if it is not there.
    #[arg(long, default_value = "secrets", value_name = "DIR")]
    secrets: PathBuf,
    /// Let the account prove its password over MQTT 5 (SCRAM-SHA-256), so that it is never told.
    #[arg(long)]
    scram: bool,
    /// How many rounds of hashing SCRAM asks of the client at each login, and of a thief for each guess; fewer for
    /// clients that are microcontrollers. 600000 by default, or as before.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(i64::from(*ITERATIONS.start())..=i64::from(*ITERATIONS.end()))
    )]
    iterations: Option<u32>,
}

impl Account {
    fn file(&self, extension: &str) -> anyhow::Result<PathBuf> {
        secret_file::of_account(&self.secrets, &self.name, extension)
    }
}

/// Carries out one of the commands.
pub(super) fn user(arguments: &UserArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        UserCommand::Add { account } => add(account)?,
        UserCommand::Password { account } => password(account)?,
        UserCommand::List { config, json } => return list::list(config, *json),
        UserCommand::Remove { name, config, secrets } => {
            return remove::remove(name, config, secrets);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(account: &Account) -> anyhow::Result<()> {
    let (hash, scram) = (account.file(HASH)?, account.file(SCRAM)?);
    for file in [&hash, &scram] {
        ensure!(
            !file.exists(),
            "{} is there already; `tidegate user password` replaces a password",
            file.display()
        );
    }
    let password = ask(&account.name)?;
    let hashed = hash_password(password.as_bytes())?;
    let verifier = account.scram.then(|| verifier(&password, account.iterations)).transpose()?;

    secret_file::make_folder(&account.secrets)?;
    secret_file::create(&hash, hashed.as_bytes(), Owner::OfFolder)?;
    let (name, place) = (&account.name, hash.display());
    println!("[[principal]]\nname = \"{name}\"\npassword = {{ file = \"{place}\" }}");
    if let Some(verifier) = verifier {
        secret_file::create(&scram, verifier.to_string().as_bytes(), Owner::OfFolder)?;
        println!("scram = {{ file = \"{}\" }}", scram.display());
    }
    Ok(())
}

fn password(account: &Account) -> anyhow::Result<()> {
    let (hash, scram) = (account.file(HASH)?, account.file(SCRAM)?);
    let is_new = account.scram && !scram.exists();
    ensure!(
        hash.exists() || scram.exists(),
        "{} is not there; `tidegate user add` makes it",
        hash.display()
    );
    let iterations = match account.iterations {
        None if scram.exists() => Some(read_verifier(&scram)?.iterations()),
        given => given,
    };
    let password = ask(&account.name)?;
    let mut files = Vec::new();
    if hash.exists() {
        files.push((hash, hash_password(password.as_bytes())?));
    }
    if scram.exists() || is_new {
        files.push((scram.clone(), verifier(&password, iterations)?.to_string()));
    }
    let replaced: Vec<(&Path, &[u8])> =
        files.iter().map(|(file, text)| (file.as_path(), text.as_bytes())).collect();
    secret_file::replace(&replaced)?;
    for (file, _) in replaced {
        println!("{} holds the new password", file.display());
    }
    if is_new {
        eprintln!(
            "For the `[[principal]]` of {}: scram = {{ file = \"{}\" }}",
            account.name,
            scram.display()
        );
    }
    Ok(())
}

/// Reads a password from standard input, one line.
fn ask(name: &str) -> anyhow::Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        eprint!("Password for {name} (shown while you type): ");
        io::stderr().flush()?;
    }
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line).context("cannot read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "the password is empty");
    Ok(Zeroizing::new(password.to_owned()))
}

fn verifier(password: &str, iterations: Option<u32>) -> anyhow::Result<Verifier> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| NoRandomBytes)?;
    let iterations = iterations.unwrap_or(ITERATIONS_DEFAULT);
    Verifier::from_password(password, &salt, iterations).context("for SCRAM")
}

fn read_verifier(file: &Path) -> anyhow::Result<Verifier> {
    let shown = || format!("cannot read {}", file.display());
    fs::read_to_string(file).with_context(shown)?.trim().parse().with_context(shown)
}
