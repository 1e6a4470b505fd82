//! `tidegate uplink`.

mod cost;
mod plot;
mod traffic;

use std::process::ExitCode;

use clap::Subcommand;

/// Arguments of `tidegate uplink`.
#[derive(Debug, clap::Args)]
pub(super) struct UplinkArguments {
    #[command(subcommand)]
    command: UplinkCommand,
}

#[derive(Debug, Subcommand)]
enum UplinkCommand {
    /// Say what a day of traffic costs, by format: messages, metered units, bytes on the line.
    #[command(after_help = cost::AFTER_HELP)]
    Cost(cost::CostArguments),
}

pub(super) fn uplink(arguments: &UplinkArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        UplinkCommand::Cost(arguments) => cost::cost(arguments),
    }
}
