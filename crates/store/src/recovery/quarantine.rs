//! Copies of damaged bytes, for people to look at.

use std::io;

use super::inventory::Inventory;
use super::survey;
use crate::damage::{Damage, DamageKind};
use crate::file_system::{File, FileSystem};
use crate::format;

/// Copies what was damaged, as far as the limit allows. A failure to copy changes nothing else.
pub(crate) fn copy<F: FileSystem>(
    files: &F,
    inventory: &mut Inventory,
    damages: &mut [Damage],
    bytes_max: u64,
) {
    let mut used: u64 = inventory.quarantine.values().sum();
    for damage in damages {
        let Some(segment) = format::segment_number(&damage.file) else { continue };
        if matches!(damage.kind, DamageKind::Redundant | DamageKind::State) || damage.bytes == 0 {
            continue;
        }
        let name = format::quarantine_name(segment, damage.offset);
        // A copy that an interrupted recovery has made may not be whole.
        used -= inventory.quarantine.remove(&name).unwrap_or(0);
        if used + damage.bytes <= bytes_max
            && let Ok(bytes @ 1..) = copy_stretch(files, damage, &name)
        {
            damage.quarantined = true;
            used += bytes;
            inventory.quarantine.insert(name, bytes);
        }
    }
}

/// Copies one stretch and returns its size; zeros, which tell nothing, are left out.
fn copy_stretch<F: FileSystem>(files: &F, damage: &Damage, name: &str) -> io::Result<u64> {
    let from = files.open(&damage.file)?;
    let end = (damage.offset + damage.bytes).min(from.len()?);
    if damage.offset >= end || survey::is_zero(&from, damage.offset, end)? {
        return Ok(0);
    }
    let to = crate::small_file::create_anew(files, name)?;
    let mut buffer = vec![0; 256 << 10];
    let mut offset = damage.offset;
    while offset < end {
        let size = (end - offset).min(buffer.len() as u64) as usize;
        let read = from.read_at(offset, &mut buffer[..size])?;
        if read == 0 {
            break;
        }
        to.write_at(offset - damage.offset, &buffer[..read])?;
        offset += read as u64;
    }
    to.sync_data()?;
    files.sync_directory()?;
    Ok(end - damage.offset)
}
