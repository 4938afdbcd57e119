//! What this appliance knows of the places of records: those that it stored itself, and those of others that it proved once. A
//! place that is not in it is proved again, so it may be lost, and may be kept small.
//!
//! ```text
//! magic "IMPV" | version u16 = 1 | features u16 = 0 | count u64
//! 8 bytes a place, ascending: keyed BLAKE3 of run name 40, number u32, ordinal u16, id 32
//! keyed BLAKE3 of all before, 32
//! ```
//!
//! The key is the appliance's own: who stores chooses ids and births, and could otherwise look for two of one tag.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::base::bytes::{Cursor, Writer};
use crate::base::error::{Error, Result};
use crate::base::limits::PROVED_PLACES;
use crate::base::secret::Secret;
use crate::formats::names::Runs;

const MAGIC: &[u8; 4] = b"IMPV";
const HEADER_BYTES: usize = 16;
const TAG_BYTES: usize = 8;
const HASH_BYTES: usize = 32;
const PURPOSE: &str = "imager v1 proved places";

pub struct Proved {
    path: PathBuf,
    key: Secret,
    /// Of earlier runs, ascending.
    old: Vec<u64>,
    new: HashSet<u64>,
}

impl Proved {
    /// What the file at `path` says; nothing where it is not there, or not what was written with this key.
    pub fn open(path: &Path, key: &Secret) -> Self {
        let key = key.derive(PURPOSE, &[]);
        let old = std::fs::read(path).ok().and_then(|bytes| decode(&bytes, &key).ok());
        Self { path: path.into(), key, old: old.unwrap_or_default(), new: HashSet::new() }
    }

    /// Throws `Invalid` where `runs` does not know the birth's run.
    pub fn knows(&self, runs: &Runs, birth: u64, id: &[u8; 32]) -> Result<bool> {
        let tag = self.tag(runs, birth, id)?;
        Ok(self.new.contains(&tag) || self.old.binary_search(&tag).is_ok())
    }

    /// Throws as `knows`.
    pub fn learn(&mut self, runs: &Runs, birth: u64, id: &[u8; 32]) -> Result<()> {
        let tag = self.tag(runs, birth, id)?;
        if self.new.len() < PROVED_PLACES && self.old.binary_search(&tag).is_err() {
            self.new.insert(tag);
        }
        Ok(())
    }

    /// Replaces the file, in one step. Of more than it may keep some of the older ones go.
    pub fn save(&mut self) -> Result<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        self.old.truncate(PROVED_PLACES - self.new.len());
        self.old.extend(self.new.drain());
        self.old.sort_unstable();
        let making = self.path.with_extension(format!("{}.new", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making)?;
            file.write_all(&encode(&self.old, &self.key))?;
            file.sync_all()?;
            std::fs::rename(&making, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        write().map_err(|error| {
            let _ = std::fs::remove_file(&making);
            Error::io("keeping which places were proved", error)
        })
    }

    fn tag(&self, runs: &Runs, birth: u64, id: &[u8; 32]) -> Result<u64> {
        let (run, number) = runs.stripe(birth >> 16)?;
        let mut place = [0; 78];
        place[..40].copy_from_slice(&run.bytes());
        place[40..44].copy_from_slice(&number.to_le_bytes());
        place[44..46].copy_from_slice(&(birth as u16).to_le_bytes());
        place[46..].copy_from_slice(id);
        Ok(u64::from_le_bytes(self.key.tag(&place)[..TAG_BYTES].try_into().expect("eight bytes")))
    }
}

fn encode(tags: &[u64], key: &Secret) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.raw(MAGIC).u16(1).u16(0).u64(tags.len() as u64);
    tags.iter().for_each(|tag| _ = writer.u64(*tag));
    let hash = key.tag(&writer.bytes);
    writer.raw(&hash);
    writer.bytes
}

fn decode(bytes: &[u8], key: &Secret) -> Result<Vec<u64>> {
    let mut cursor = Cursor::new("the places that were proved", bytes);
    let whole = bytes.len().checked_sub(HASH_BYTES).filter(|end| key.tag(&bytes[..*end]) == bytes[*end..]);
    if cursor.array()? != *MAGIC || cursor.u16()? != 1 || cursor.u16()? != 0 || whole.is_none() {
        return Err(cursor.corrupt("it is not what was written"));
    }
    let count = cursor.u64()?;
    if count > PROVED_PLACES as u64 || bytes.len() != HEADER_BYTES + count as usize * TAG_BYTES + HASH_BYTES {
        return Err(cursor.corrupt("a count that does not fit"));
    }
    (0..count).map(|_| cursor.u64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::names::RunName;

    fn runs(seeds: &[u8]) -> Runs {
        let mut runs = Runs::default();
        for seed in seeds {
            runs.number(&RunName { writer: [*seed; 32], run: [*seed; 8] }).unwrap();
        }
        runs
    }

    #[test]
    fn places_are_known_in_later_runs_and_one_that_differs_in_anything_is_not() {
        let path = std::env::temp_dir().join(format!("imager-proved-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (key, here, there) = (Secret::new([1; 32]), runs(&[1, 2]), runs(&[2, 1]));
        let mut proved = Proved::open(&path, &key);
        let (birth, id) = (1 << 40 | 5 << 16 | 7, [3; 32]);
        assert!(!proved.knows(&here, birth, &id).unwrap());
        proved.learn(&here, birth, &id).unwrap();
        assert!(proved.knows(&here, birth, &id).unwrap());
        proved.save().unwrap();
        proved.learn(&here, 1 << 40, &[4; 32]).unwrap();
        proved.save().unwrap();
        let again = Proved::open(&path, &key);
        // The run has another number in another process.
        assert!(again.knows(&there, birth ^ 3 << 40, &id).unwrap());
        assert!(again.knows(&here, 1 << 40, &[4; 32]).unwrap());
        for (birth, id) in [(birth ^ 3 << 40, id), (birth ^ 1 << 16, id), (birth ^ 1, id), (birth, [4; 32])] {
            assert!(!again.knows(&here, birth, &id).unwrap());
        }
        assert!(again.knows(&here, 9 << 40, &id).is_err(), "of no run");
        let bytes = std::fs::read(&path).unwrap();
        assert!(!Proved::open(&path, &Secret::new([2; 32])).knows(&here, birth, &id).unwrap(), "another's");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(decode(&flipped, &key.derive(PURPOSE, &[])).is_err(), "byte {at}");
            assert!(decode(&bytes[..at], &key.derive(PURPOSE, &[])).is_err(), "cut at {at}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn it_stays_as_small_as_it_may_be() {
        let key = Secret::new([1; 32]);
        let path = std::env::temp_dir().join(format!("imager-proved-small-{}", std::process::id()));
        let old: Vec<u64> = (0..PROVED_PLACES as u64).collect();
        let mut proved = Proved { path: path.clone(), key: key.derive(PURPOSE, &[]), old, new: HashSet::new() };
        proved.learn(&runs(&[1]), 1 << 40, &[1; 32]).unwrap();
        proved.save().unwrap();
        let again = Proved::open(&path, &key);
        assert_eq!(again.old.len(), PROVED_PLACES);
        assert!(again.knows(&runs(&[1]), 1 << 40, &[1; 32]).unwrap(), "the newest stays");
        std::fs::remove_file(&path).unwrap();
    }
}
