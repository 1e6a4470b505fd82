//! `tidegate check`.

use std::{io::IsTerminal, process::ExitCode};

use super::{ConfigArguments, EX_CONFIG};
use crate::config::{self, Style};

/// Arguments of `tidegate check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print the problems as JSON.
    #[arg(long)]
    json: bool,
}

/// Reports every problem of all files; the exit code is 78 if there is an error among them.
pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let path = &arguments.config.config;
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    if arguments.json {
        println!("{}", config::render_json(&loaded.issues, &loaded.sources));
    } else {
        let style = if std::io::stdout().is_terminal() { Style::Color } else { Style::Plain };
        print!("{}", config::render(&loaded.issues, &loaded.sources, style));
    }
    let Some(config) = &loaded.config else { return Ok(ExitCode::from(EX_CONFIG)) };
    if !arguments.json {
        let mappings = loaded.mapping_files.len();
        let files = if mappings == 1 { "file" } else { "files" };
        println!(
            "{}: good; gateway `{}`, {mappings} mapping {files}",
            path.display(),
            config.gateway.id
        );
    }
    Ok(ExitCode::SUCCESS)
}
