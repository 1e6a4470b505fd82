//! The `tidegate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::commands::main(std::env::args_os())
}
