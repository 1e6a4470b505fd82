//! The command line: one file per command.

mod acl;
mod cert;
mod check;
mod decode;
mod push;
mod run;
mod status;
mod token;
mod uplink;
mod user;
mod verify;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// `status` asked, and a ledger is red.
const EX_RED: u8 = 1;
/// `push` was refused.
const EX_REFUSED: u8 = 1;
/// `status` could not ask the gateway, or did not understand its answer.
const EX_UNASKED: u8 = 2;
/// Wrong use of the command line.
pub const EX_USAGE: u8 = 64;
/// An address is in use.
pub const EX_UNAVAILABLE: u8 = 69;
/// A fault of the gateway itself: it is to be started again.
pub const EX_SOFTWARE: u8 = 70;
/// Storage failed.
pub const EX_IOERR: u8 = 74;
/// The data directory is in use.
pub const EX_TEMPFAIL: u8 = 75;
/// The configuration is wrong.
pub const EX_CONFIG: u8 = 78;

/// Edge gateway that bridges CoAP, OPC UA, HTTP and MQTT, and never loses a reading.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
#[command(after_help = "Example:\n  tidegate demo\n  tidegate run -c tidegate.toml")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job with nothing else installed: embedded devices, gateway and cloud.
    #[command(after_help = "Example:\n  tidegate demo --for 10s")]
    Demo(crate::demo::DemoArguments),
    /// Run the gateway.
    #[command(after_help = "Example:\n  tidegate run -c /etc/tidegate/tidegate.toml")]
    Run(ConfigArguments),
    /// Report every problem of the configuration and its mapping files.
    #[command(after_help = "Example:\n  tidegate check -c tidegate.toml")]
    Check(check::CheckArguments),
    /// Print an uplink payload as JSON lines, one for each reading.
    #[command(after_help = "Example:\n  mosquitto_sub -t 'tidegate/#' -C 1 -N | tidegate decode")]
    Decode(decode::DecodeArguments),
    /// Say whether captured uplink payloads are complete, or which numbers are missing.
    #[command(after_help = verify::AFTER_HELP)]
    Verify(verify::VerifyArguments),
    /// Show health, queues and ledger of a running gateway.
    #[command(after_help = status::AFTER_HELP)]
    Status(status::StatusArguments),
    /// Hand mapping files, and a configuration, to a running gateway: look at what they change, try them, keep them or go back.
    #[command(after_help = push::AFTER_HELP)]
    Push(push::PushArguments),
    /// Say what an uplink's traffic costs.
    Uplink(uplink::UplinkArguments),
    /// Make, list and remove accounts, and replace their passwords.
    #[command(after_help = "Example:\n  tidegate user add press-7")]
    User(user::UserArguments),
    /// Make, list and take back API tokens.
    #[command(after_help = "Example:\n  tidegate token add scada --expires 365d")]
    Token(token::TokenArguments),
    /// Try the access rules.
    #[command(
        after_help = "Example:\n  tidegate acl test press-7 publish hall1/press-7/temperature"
    )]
    Acl(acl::AclArguments),
    /// Make certificates: a plant's own authority, the gateway's, devices'.
    #[command(after_help = "Example:\n  tidegate cert init")]
    Cert(cert::CertArguments),
    /// Print completions for a shell.
    #[command(
        after_help = "Example:\n  tidegate completions bash > /etc/bash_completion.d/tidegate"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArguments {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/tidegate/tidegate.toml")]
    config: PathBuf,
}

/// Runs the command that the arguments name, and returns the exit code of the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            // There is nobody left to tell if this fails.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let result = match arguments.command {
        Command::Demo(arguments) => crate::demo::demo(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Decode(arguments) => decode::decode(&arguments),
        Command::Verify(arguments) => verify::verify(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Push(arguments) => push::push(&arguments),
        Command::Uplink(arguments) => uplink::uplink(&arguments),
        Command::User(arguments) => user::user(&arguments),
        Command::Token(arguments) => token::token(&arguments),
        Command::Acl(arguments) => acl::acl(&arguments),
        Command::Cert(arguments) => cert::cert(&arguments),
        Command::Completions { shell } => {
            let mut command = <Arguments as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "tidegate", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("tidegate: {error:#}");
        ExitCode::FAILURE
    })
}
