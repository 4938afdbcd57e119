//! File systems: which one a volume holds, and its map. A parser either builds that whole or refuses, and then the volume
//! is read raw and says so.

#![forbid(unsafe_code)]

pub mod btrfs;
mod budget;
pub mod ext;
pub mod fat;
pub mod ntfs;
pub mod recognise;
mod shared;
pub mod volume_map;
pub mod xfs;

use crate::base::error::Result;
use crate::disk::sandbox::caught;
use crate::disk::volume::Volume;
use crate::fs::volume_map::VolumeMap;

/// What became of a volume.
#[allow(clippy::large_enum_variant)] // There is one of it for each volume.
#[derive(Debug)]
pub enum Outcome {
    Mapped(VolumeMap),
    /// `found` is what the magic bytes say ("swap", "xfs", "unknown"; see `recognise`).
    Raw {
        found: &'static str,
        reason: String,
    },
}

/// Its name, whether the magic is there, and the map.
type Parser = (&'static str, fn(Volume) -> Result<bool>, fn(Volume) -> Result<VolumeMap>);

const PARSERS: [Parser; 6] = [
    ("ext", ext::detect, ext::map),
    ("ntfs", ntfs::detect, ntfs::map),
    ("xfs", xfs::detect, xfs::map),
    ("btrfs", btrfs::detect, btrfs::map),
    ("exfat", fat::exfat::detect, fat::exfat::map),
    ("fat", fat::detect, fat::map),
];

/// Whether something that has a name here begins at the start of a volume.
pub fn known(volume: Volume) -> bool {
    let parsed = PARSERS.iter().any(|(_, detect, _)| detect(volume).unwrap_or(false));
    parsed || recognise::recognise(volume).is_some()
}

/// Tries each parser by its magic; what one refuses, or panics on, is read raw.
pub fn map_volume(volume: Volume) -> Outcome {
    for (name, detect, map) in PARSERS {
        match caught(|| detect(volume)) {
            Ok(true) => {
                return match caught(|| map(volume)) {
                    Ok(map) => Outcome::Mapped(map),
                    Err(error) => Outcome::Raw { found: name, reason: error.to_string() },
                };
            }
            Ok(false) => {}
            Err(error) => return Outcome::Raw { found: "unknown", reason: error.to_string() },
        }
    }
    match caught(|| Ok(recognise::recognise(volume))).ok().flatten() {
        Some(recognise::Found { name, reason }) => Outcome::Raw { found: name, reason: reason.into() },
        None if caught(|| ext::detect_backup(volume)).unwrap_or(false) => match caught(|| ext::map(volume)) {
            Ok(map) => Outcome::Mapped(map),
            Err(error) => Outcome::Raw { found: "ext", reason: error.to_string() },
        },
        None => Outcome::Raw { found: "unknown", reason: "no file system that imager knows".into() },
    }
}
