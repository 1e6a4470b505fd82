//! `tidegate decode`.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use tidegate_uplink::decoder;

/// Largest input that is read, in bytes; a batch is far smaller.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// Arguments of `tidegate decode`.
#[derive(Debug, clap::Args)]
pub(super) struct DecodeArguments {
    /// The payload; standard input if left out.
    file: Option<PathBuf>,
    /// The payload is written in hexadecimal digits.
    #[arg(long)]
    hex: bool,
}

/// Prints the readings of one uplink payload.
pub(super) fn decode(arguments: &DecodeArguments) -> anyhow::Result<ExitCode> {
    let mut payload = Vec::new();
    match &arguments.file {
        Some(path) => File::open(path)
            .with_context(|| format!("cannot open {}", path.display()))?
            .take(INPUT_BYTES_MAX)
            .read_to_end(&mut payload)
            .with_context(|| format!("cannot read {}", path.display()))?,
        None => io::stdin()
            .take(INPUT_BYTES_MAX)
            .read_to_end(&mut payload)
            .context("cannot read standard input")?,
    };
    if arguments.hex {
        payload = from_hex(&payload)?;
    }
    let mut output = BufWriter::new(io::stdout().lock());
    decoder::print_lines(&payload, &mut output)?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn from_hex(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = text
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|&byte| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .with_context(|| format!("`{}` is not a hexadecimal digit", byte.escape_ascii()))
        })
        .collect::<Result<_, _>>()?;
    anyhow::ensure!(digits.len().is_multiple_of(2), "an odd number of hexadecimal digits");
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_reads_with_white_space() {
        assert_eq!(from_hex(b"00 ff\n7A").unwrap(), [0, 255, 0x7A]);
        assert!(from_hex(b"0").is_err() && from_hex(b"0g").is_err());
    }
}
