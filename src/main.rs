//! The `tidegate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First, as it is safe only while there is one thread.
    if let Err(error) = tidegate_names::use_files_and_dns() {
        eprintln!("tidegate: {error}");
        return ExitCode::FAILURE;
    }
    tidegate::commands::main(std::env::args_os())
}
