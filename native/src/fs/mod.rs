//! File systems: which one a volume holds, and its map. A parser either builds that whole or refuses, and then the volume
//! is read raw and says so.

#![forbid(unsafe_code)]

pub mod btrfs;
mod budget;
pub mod ext;
pub mod fat;
pub mod file_system;
mod in_use;
mod listing;
pub mod ntfs;
pub mod recognise;
mod shared;
pub mod volume_map;
mod wtf8;
pub mod xfs;

use self::file_system::FileSystem;
use self::recognise::Found;
use self::volume_map::VolumeMap;
use crate::disk::sandbox::caught;
use crate::disk::volume::Volume;

/// All that have a parser, in the order in which a volume is shown to them.
pub const FILE_SYSTEMS: [&dyn FileSystem; 6] = [
    &ext::ExtFileSystem,
    &ntfs::NtfsFileSystem,
    &xfs::XfsFileSystem,
    &btrfs::BtrfsFileSystem,
    &fat::exfat::ExFatFileSystem,
    &fat::FatFileSystem,
];

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

/// Whose map it is.
pub fn of(map: &VolumeMap) -> Option<&'static dyn FileSystem> {
    FILE_SYSTEMS.into_iter().find(|system| system.names().contains(&map.file_system))
}

/// Types of mounts that may be frozen.
pub fn freezable() -> impl Iterator<Item = &'static str> {
    FILE_SYSTEMS.into_iter().flat_map(|system| system.frozen_as()).copied()
}

/// Whether something that has a name here begins at the start of a volume.
pub fn known(volume: Volume) -> bool {
    let parsed = FILE_SYSTEMS.iter().any(|system| system.detect(volume).unwrap_or(false));
    parsed || recognise::recognise(volume).is_some()
}

/// Tries each parser by its magic; what one refuses, or panics on, is read raw.
pub fn map_volume(volume: Volume) -> Outcome {
    for system in FILE_SYSTEMS {
        match caught(|| system.detect(volume)) {
            Ok(true) => return map_as(system, volume),
            Ok(false) => {}
            Err(error) => return Outcome::Raw { found: "unknown", reason: error.to_string() },
        }
    }
    if let Some(Found { name, reason }) = caught(|| Ok(recognise::recognise(volume))).ok().flatten() {
        return Outcome::Raw { found: name, reason: reason.into() };
    }
    let remains = |system: &&dyn FileSystem| caught(|| system.detect_remains(volume)).unwrap_or(false);
    match FILE_SYSTEMS.into_iter().find(remains) {
        Some(system) => map_as(system, volume),
        None => Outcome::Raw { found: "unknown", reason: "no file system that imager knows".into() },
    }
}

fn map_as(system: &dyn FileSystem, volume: Volume) -> Outcome {
    match caught(|| system.map(volume)) {
        Ok(map) => {
            debug_assert!(system.names().contains(&map.file_system), "a map of {}", map.file_system);
            Outcome::Mapped(map)
        }
        Err(error) => Outcome::Raw { found: system.name(), reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_map_calls_itself_leads_to_one_file_system() {
        for system in FILE_SYSTEMS {
            for file_system in system.names() {
                let holders = FILE_SYSTEMS.iter().filter(|other| other.names().contains(file_system)).count();
                let found = of(&VolumeMap { file_system, ..VolumeMap::default() }).map(|found| found.name());
                assert_eq!((holders, found), (1, Some(system.name())), "{file_system}");
            }
        }
        assert!(of(&VolumeMap::default()).is_none());
    }
}
