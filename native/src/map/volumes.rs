//! The volumes of a disk: its partitions, and in those that are physical volumes of LVM the logical ones.
//!
//! Logical volume `n` of partition `p` has the number `1000 p + n`; of a disk without a table, whose one partition is 0,
//! the number `n`. No partition has such a number: a table with that many leaves the physical volume whole.

use crate::base::error::Error;
use crate::base::limits::LVM_PARTITIONS;
use crate::disk::lvm::{self, group};
use crate::disk::sandbox::caught;
use crate::disk::table::{Partition, Table};
use crate::disk::volume::{ReadAt, Volume};
use crate::fs::{self, Outcome};
use crate::map::cut::MappedVolume;
use crate::map::pieces::Pieces;

const NUMBERS: u32 = 1000;
const NAMED: usize = 5;

/// The volumes of a table, each mapped by its file system or declared raw; logical ones follow their physical one.
pub fn map_volumes(source: &dyn ReadAt, table: &Table) -> Vec<MappedVolume> {
    let highest = table.partitions.iter().map(|partition| partition.index).max().unwrap_or(0);
    table.partitions.iter().flat_map(|partition| map_partition(source, partition, highest)).collect()
}

fn map_partition(source: &dyn ReadAt, partition: &Partition, highest: u32) -> Vec<MappedVolume> {
    let volume = Volume { source, start: partition.start, length: partition.length };
    let outcome = fs::map_volume(volume);
    let mut whole = MappedVolume::of_partition(partition.clone(), outcome);
    if !caught(|| lvm::detect(volume)).unwrap_or(false) {
        return vec![whole];
    }
    let raw = |reason: String| Outcome::Raw { found: "lvm2", reason };
    if !matches!(whole.outcome, Outcome::Raw { found: "lvm2", .. }) {
        whole.outcome = raw("it has both a label of LVM and another file system, kept as it is".into());
        return vec![whole];
    }
    let numbered = partition.index <= LVM_PARTITIONS && highest < NUMBERS;
    let read =
        if numbered { caught(|| lvm::read(volume)) } else { Err(Error::unsupported("LVM on so many partitions")) };
    match read {
        Err(error) => {
            whole.outcome = raw(format!("it is a physical volume of LVM, kept as it is: {error}"));
            vec![whole]
        }
        Ok(physical) => {
            whole.outcome = raw(reason(&physical));
            whole.pieces = physical.rest;
            let logical = physical.volumes.into_iter().map(|logical| map_logical(source, partition.index, logical));
            std::iter::once(whole).chain(logical).collect()
        }
    }
}

fn map_logical(source: &dyn ReadAt, within: u32, logical: group::Logical) -> MappedVolume {
    let group::Logical { number, name, pieces } = logical;
    let joined = Pieces::new(source, &pieces);
    let length = joined.length();
    let outcome = match fs::map_volume(Volume::whole(&joined)) {
        Outcome::Mapped(map) => Outcome::Mapped(joined.translate(map)),
        raw @ Outcome::Raw { .. } => raw,
    };
    let partition =
        Partition { index: within * NUMBERS + number, start: pieces[0].start, length, kind: "lvm2".into(), name };
    MappedVolume { partition, pieces, within: Some(within), outcome }
}

fn reason(physical: &group::Physical) -> String {
    let mut reason =
        format!("it is a physical volume of LVM ({}); its logical volumes are shown apart", physical.group);
    for (name, kind) in physical.others.iter().take(NAMED) {
        reason += &format!("; {name} ({kind}) is read raw with it");
    }
    if physical.others.len() > NAMED {
        reason += &format!("; and {} more", physical.others.len() - NAMED);
    }
    reason
}
