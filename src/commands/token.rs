//! `tidegate token`: API tokens of principals.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, ensure};
use clap::Subcommand;
use tidegate_model::Timestamp;
use tidegate_settings::parse_duration;

use crate::broker::{Token, parse_tokens};
use crate::secret_file;

/// Arguments of `tidegate token`.
#[derive(Debug, clap::Args)]
pub(super) struct TokenArguments {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, this once; only its hash is kept.
    #[command(
        after_help = "Example:\n  tidegate token add scada --expires 365d --secrets /etc/tidegate/secrets"
    )]
    Add {
        #[command(flatten)]
        of: Of,
        /// For how long it is worth something, such as `90d`; for ever without.
        #[arg(long, value_name = "DURATION", value_parser = read_duration)]
        expires: Option<Duration>,
    },
    /// Show the tokens of a principal: short name, end.
    #[command(after_help = "Example:\n  tidegate token list scada")]
    List {
        #[command(flatten)]
        of: Of,
    },
    /// Take a token back; a running gateway does not believe it any more within a second.
    #[command(after_help = "Example:\n  tidegate token remove scada 1f0e2d3c")]
    Remove {
        #[command(flatten)]
        of: Of,
        /// Its short name, as `list` shows it.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Of {
    /// The name of the principal.
    name: String,
    /// The folder of the hashes.
    #[arg(long, default_value = "secrets", value_name = "DIR")]
    secrets: PathBuf,
}

impl Of {
    fn file(&self) -> anyhow::Result<PathBuf> {
        secret_file::of_account(&self.secrets, &self.name, "tokens")
    }
}

fn read_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Carries out one of the commands.
pub(super) fn token(arguments: &TokenArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        TokenCommand::Add { of, expires } => add(of, *expires),
        TokenCommand::List { of } => list(of),
        TokenCommand::Remove { of, id } => remove(of, id),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(of: &Of, expires: Option<Duration>) -> anyhow::Result<()> {
    let file = of.file()?;
    let mut tokens = if file.exists() { read(&file)? } else { Vec::new() };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now = Timestamp::from_unix_micros(i64::try_from(since.as_micros())?);
    let (text, token) = Token::generate(expires.map(|after| now.saturating_add(after)))?;
    tokens.push(token);
    secret_file::make_folder(&of.secrets)?;
    write(&of.name, &file, &tokens)?;
    println!("{}", *text);
    eprintln!(
        "It is shown this once. For the configuration, if it is not there yet:\n\
         [[principal]]\nname = \"{}\"\ntokens = {{ file = \"{}\" }}",
        of.name,
        file.display()
    );
    Ok(())
}

fn list(of: &Of) -> anyhow::Result<()> {
    for token in read(&of.file()?)? {
        match token.expires() {
            Some(expires) => println!("{} until {expires}", token.id()),
            None => println!("{} for ever", token.id()),
        }
    }
    Ok(())
}

fn remove(of: &Of, id: &str) -> anyhow::Result<()> {
    let file = of.file()?;
    let tokens = read(&file)?;
    let left: Vec<Token> = tokens.iter().filter(|token| token.id() != id).cloned().collect();
    ensure!(left.len() < tokens.len(), "{} holds no token `{id}`", file.display());
    write(&of.name, &file, &left)
}

fn read(file: &Path) -> anyhow::Result<Vec<Token>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse_tokens(&text).map_err(|(line, error)| anyhow!("{}, line {line}: {error}", file.display()))
}

fn write(name: &str, file: &Path, tokens: &[Token]) -> anyhow::Result<()> {
    let mut text =
        format!("# Tokens of {name}: hash and end. `tidegate token` writes this file.\n");
    for token in tokens {
        text += &format!("{token}\n");
    }
    secret_file::replace(&[(file, text.as_bytes())])
}
