//! The $MFT: found through the boot sector, read through its own runs, which may themselves be spread over several of
//! its records.

use super::attributes::{self, Attribute, DATA, Segment, Value};
use super::boot::Boot;
use super::doubts::RecordDoubts;
use super::record::{self, Claim, Header, Reference};
use super::runs::{self, Runlist};
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;

const WHAT: &str = "$MFT";

/// An opened record with the attributes that files are made of.
#[derive(Debug)]
pub struct Record {
    pub number: u64,
    pub sequence_number: u16,
    pub directory: bool,
    pub base_mft_record: Option<Reference>,
    pub attributes: Vec<Attribute>,
    /// All attributes, also those that were not kept.
    pub attribute_count: u64,
}

impl Record {
    /// Opens `bytes` in place. Every run that is seen goes to `occupied` as (first cluster, count), also when the record
    /// turns out to be bad further on.
    pub fn decode(number: u64, bytes: &mut [u8], boot: &Boot, occupied: &mut Vec<(u64, u64)>) -> Result<Self> {
        let header = record::open(bytes)?;
        let Header { sequence_number, directory, base_mft_record, .. } = header;
        let mut attributes = Vec::new();
        let mut attribute_count = 0;
        for raw in record::attributes(bytes, &header) {
            attribute_count += 1;
            let Some(attribute) = attributes::decode(raw?, boot)? else { continue };
            if let Value::NonResident(segment) = &attribute.value {
                occupied.extend(segment.runs.iter().filter_map(|run| Some((run.lcn?, run.length))));
            }
            if attributes::wanted(attribute.kind) {
                attributes.push(attribute);
            }
        }
        Ok(Self { number, sequence_number, directory, base_mft_record, attributes, attribute_count })
    }

    fn find(&self, kind: u32) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.kind == kind && attribute.name.is_empty())
    }

    /// The entries of the record's $ATTRIBUTE_LIST; None if it has none. `parts` is how many attributes the list can
    /// name at most: a longer list is refused before it is read.
    pub fn list(&self, volume: Volume, boot: &Boot, parts: u64) -> Result<Option<Vec<attributes::ListEntry>>> {
        let Some(attribute) = self.find(attributes::ATTRIBUTE_LIST) else { return Ok(None) };
        let most = limits::ATTRIBUTE_LIST_BYTES.min(parts.saturating_mul(attributes::MOST_LIST_ENTRY_BYTES));
        attributes::list(&read_value(volume, boot, attribute, most)?).map(Some)
    }
}

/// The whole value of an attribute that has but one segment, up to `most` bytes.
pub fn read_value(volume: Volume, boot: &Boot, attribute: &Attribute, most: u64) -> Result<Vec<u8>> {
    let too_long = || Error::corrupt(WHAT, 0, "an attribute is longer than its kind allows");
    match &attribute.value {
        Value::Resident(value) if value.len() as u64 <= most => Ok(value.clone()),
        Value::Resident(_) => Err(too_long()),
        Value::NonResident(segment) => {
            if segment.lowest_vcn != 0 || segment.data_size > most {
                return Err(too_long());
            }
            if attribute.flags & (attributes::FLAG_COMPRESSED | attributes::FLAG_ENCRYPTED) != 0 {
                return Err(Error::unsupported("a compressed or encrypted attribute that is not $DATA"));
            }
            let mut value = vec![0; segment.data_size as usize];
            let valid = segment.initialized_size as usize;
            runs::read(volume, boot, &segment.runs, 0, &mut value[..valid])?;
            Ok(value)
        }
    }
}

pub struct Mft {
    list: Runlist,
    /// How many records may hold something.
    records: u64,
}

impl Mft {
    pub fn open(volume: Volume, boot: &Boot, doubts: &mut RecordDoubts) -> Result<Self> {
        let first = match first_record(volume, boot, boot.mft_lcn) {
            Ok(record) => record,
            // The mirror holds the first records once more. If it is no better, the first failure says more.
            Err(error) => match first_record(volume, boot, boot.mftmirr_lcn) {
                Ok(record) => {
                    doubts.volume(format!("The first record of $MFT is bad ({error}); its mirror was used"));
                    record
                }
                Err(_) => return Err(error),
            },
        };
        let base = first_segment(&first)?;
        let mut list = Runlist::default();
        append(&mut list, base, boot)?;
        // Each entry names a record of a $MFT that is as long as the volume at most.
        let parts = boot.clusters.saturating_mul(boot.cluster_bytes) / 64;
        for entry in first.list(volume, boot, parts)?.unwrap_or_default() {
            if entry.kind == DATA && entry.lowest_vcn != 0 {
                let segment = extension(volume, boot, &list, entry)?;
                append(&mut list, &segment, boot)?;
            }
        }
        let mapped = list.end() * boot.cluster_bytes;
        if base.initialized_size > mapped {
            return Err(Error::corrupt(WHAT, mapped, "longer than its runs"));
        }
        Ok(Self { list, records: base.initialized_size / boot.record_bytes as u64 })
    }

    /// Every record that is not free, in order of number, with its claim; its fixups are still in place.
    pub fn each(&self, volume: Volume, boot: &Boot, mut take: impl FnMut(u64, Claim, &mut [u8])) -> Result<()> {
        let chunk_records = (limits::TABLE_READ_BYTES / boot.record_bytes) as u64;
        let mut buffer = vec![0u8; limits::TABLE_READ_BYTES];
        let mut number = 0;
        while number < self.records {
            let count = chunk_records.min(self.records - number);
            let chunk = &mut buffer[..count as usize * boot.record_bytes];
            runs::read(volume, boot, &self.list.runs, number * boot.record_bytes as u64, chunk)?;
            for (index, bytes) in chunk.chunks_exact_mut(boot.record_bytes).enumerate() {
                match record::claim(bytes) {
                    Claim::Free => {}
                    claim => take(number + index as u64, claim, bytes),
                }
            }
            number += count;
        }
        Ok(())
    }
}

fn first_record(volume: Volume, boot: &Boot, lcn: u64) -> Result<Record> {
    let Some(at) = lcn.checked_mul(boot.cluster_bytes) else {
        return Err(Error::corrupt(WHAT, 0, "its cluster lies outside the volume"));
    };
    let mut bytes = volume.read_vec(at, boot.record_bytes)?;
    let record = Record::decode(0, &mut bytes, boot, &mut Vec::new())?;
    first_segment(&record)?;
    Ok(record)
}

fn first_segment(record: &Record) -> Result<&Segment> {
    match record.find(DATA).map(|attribute| &attribute.value) {
        Some(Value::NonResident(segment)) if segment.lowest_vcn == 0 => Ok(segment),
        _ => Err(Error::corrupt(WHAT, 0, "its first record has no $DATA that starts it")),
    }
}

fn append(list: &mut Runlist, segment: &Segment, boot: &Boot) -> Result<()> {
    if segment.runs.iter().any(|run| run.lcn.is_none()) {
        return Err(Error::corrupt(WHAT, 0, "a sparse run"));
    }
    list.append(&segment.runs, boot)
}

/// A further segment of $MFT's own $DATA. Its record must lie in the part that the segments before it map, else nobody
/// could find it.
fn extension(volume: Volume, boot: &Boot, list: &Runlist, entry: attributes::ListEntry) -> Result<Segment> {
    let corrupt = |why: &str| Error::corrupt(WHAT, 0, why);
    let number = entry.mft_reference.number;
    let mut bytes = vec![0; boot.record_bytes];
    runs::read(volume, boot, &list.runs, number * boot.record_bytes as u64, &mut bytes)?;
    let record = Record::decode(number, &mut bytes, boot, &mut Vec::new())?;
    if record.base_mft_record.is_none_or(|base| base.number != 0) {
        return Err(corrupt("its list names a record that is not its own"));
    }
    for attribute in record.attributes {
        if let Value::NonResident(segment) = attribute.value
            && (attribute.kind, attribute.instance) == (DATA, entry.instance)
            && segment.lowest_vcn == entry.lowest_vcn
        {
            return if segment.runs.is_empty() { Err(corrupt("an empty segment")) } else { Ok(segment) };
        }
    }
    Err(corrupt("its list names an attribute that does not exist"))
}
