//! NTFS into a file map. The walk goes over the records of the $MFT and not over the folders: each record says itself
//! what it is called and where it hangs, and an index that is torn or spread over several records loses nothing.
//!
//! The way of the data: `boot` -> `mft` (`record`, `attributes`, `runs`) -> `survey` (joins extension records, builds
//! `files` with `streams` and `special`) -> `tree` and `bitmap`. A bad boot sector or $MFT fails the map. A bad record
//! is a doubt and no file; its clusters are kept, as is everything that `$Bitmap` or any run calls used.

mod attributes;
mod bitmap;
mod boot;
pub mod decompress;
mod doubts;
mod files;
mod mft;
mod record;
mod runs;
#[cfg(test)]
mod sample;
mod special;
mod streams;
mod survey;
mod text;
mod tree;

use boot::{BOOT_BYTES, Boot};
use doubts::Doubts;
use survey::{ROOT_RECORD, Survey};

use super::{ByteRange, File, Kind, Timestamp, VolumeMap};
use crate::error::{Error, Result};
use crate::volume::Volume;

const VOLUME_IS_DIRTY: u16 = 1;

pub fn detect(volume: Volume) -> Result<bool> {
    if volume.length < BOOT_BYTES as u64 {
        return Ok(false);
    }
    let mut sector = [0; BOOT_BYTES];
    volume.read(0, &mut sector)?;
    Ok(boot::looks_like(&sector))
}

pub fn map(volume: Volume) -> Result<VolumeMap> {
    let mut sector = [0; BOOT_BYTES];
    volume.read(0, &mut sector)?;
    let boot = boot::decode(&sector, volume.length)?;
    let mut doubts = Doubts::default();
    let mft = mft::Mft::open(volume, &boot, &mut doubts)?;
    let Survey { mut files, names, about, bitmap, occupied, .. } = Survey::run(volume, &boot, &mft, &mut doubts)?;

    let allocated = allocated(volume, &boot, bitmap, occupied, &mut doubts);
    if files.binary_search_by_key(&ROOT_RECORD, |file| file.number).is_err() {
        doubts.volume("The root folder's record is bad; a bare one stands for it");
        let index = files.partition_point(|file| file.number < ROOT_RECORD);
        files.insert(index, bare_root());
    }
    if about.flags.is_none() {
        doubts.volume("$Volume could not be read; the volume is taken as dirty");
    }
    let tree = tree::build(files, names, &mut doubts);
    Ok(VolumeMap {
        file_system: "ntfs",
        label: String::from_utf16_lossy(&about.label),
        // As blkid prints it.
        uuid: format!("{:016X}", boot.volume_serial_number),
        cluster_bytes: boot.cluster_bytes as u32,
        dirty: about.flags.is_none_or(|flags| flags & VOLUME_IS_DIRTY != 0),
        root: ROOT_RECORD,
        allocated,
        files: tree.files,
        entries: tree.entries,
        doubts: doubts.into_sentences(),
    })
}

fn allocated(
    volume: Volume,
    boot: &Boot,
    bitmap: Option<streams::Whole>,
    occupied: Vec<(u64, u64)>,
    doubts: &mut Doubts,
) -> Vec<ByteRange> {
    let bitmap = bitmap.ok_or_else(|| Error::corrupt("$Bitmap", 0, "its record is bad"));
    match bitmap.and_then(|bitmap| bitmap::read(volume, boot, &bitmap)) {
        Ok(marked) => {
            let (ranges, unmarked) = bitmap::allocated(volume, boot, marked, occupied);
            if unmarked > 0 {
                doubts.volume(format!("{unmarked} bytes belong to files but are free in $Bitmap; they are kept"));
            }
            ranges
        }
        Err(error) => {
            doubts.volume(format!("The whole volume is taken as allocated: {error}"));
            vec![ByteRange { start: volume.absolute(0), length: volume.length }]
        }
    }
}

/// Generation 0: its children's references fit it whatever they are.
fn bare_root() -> File {
    File {
        number: ROOT_RECORD,
        generation: 0,
        kind: Kind::Directory,
        mode: 0o777,
        uid: 0,
        gid: 0,
        links: 1,
        device: 0,
        modified: Timestamp::default(),
        changed: Timestamp::default(),
        created: Timestamp::default(),
        xattrs: Vec::new(),
        streams: Vec::new(),
    }
}
