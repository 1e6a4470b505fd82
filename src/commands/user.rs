//! `tidegate user`.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use tidegate_model::Principal;

use super::secret_file::{self, Owner};
use crate::broker::hash_password;

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
        /// The name of the account.
        name: String,
        /// The folder for the hash; made if it is not there.
        #[arg(long, default_value = "secrets", value_name = "DIR")]
        secrets: PathBuf,
    },
}

/// Makes an account: the password is read from standard input, one line.
pub(super) fn user(arguments: &UserArguments) -> anyhow::Result<ExitCode> {
    let UserCommand::Add { name, secrets } = &arguments.command;
    let principal = Principal::new(name).with_context(|| format!("the name `{name}`"))?;
    ensure!(
        !name.contains(['/', '+', '#', '*']),
        "the name `{name}` must not contain `/`, `+`, `#` or `*`"
    );
    if io::stdin().is_terminal() {
        eprint!("Password for {principal} (shown while you type): ");
        io::stderr().flush()?;
    }
    let mut password = String::new();
    io::stdin().lock().read_line(&mut password).context("cannot read the password")?;
    let password = password.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "the password is empty");
    let hash = hash_password(password.as_bytes())?;

    secret_file::make_folder(secrets)?;
    let path = secrets.join(format!("{name}.hash"));
    secret_file::create(&path, hash.as_bytes(), Owner::OfFolder)?;

    println!(
        "[[principal]]\nname = \"{principal}\"\npassword = {{ file = \"{}\" }}",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}
