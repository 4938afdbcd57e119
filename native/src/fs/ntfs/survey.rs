//! One pass over the $MFT. A base record without an attribute list becomes a file at once; one with a list waits until
//! all records were seen, and takes from its extensions what the list names.

use std::collections::HashMap;

use super::attributes::{self, Attribute, ListEntry, Value};
use super::boot::Boot;
use super::doubts::RecordDoubts;
use super::files::{self, Name};
use super::mft::{Mft, Record};
use super::record::{self, Claim, Reference};
use super::streams::{self, Whole};
use crate::base::error::{Error, Result};
use crate::disk::volume::Volume;
use crate::fs::volume_map::File;

pub const VOLUME_RECORD: u64 = 3;
pub const ROOT_RECORD: u64 = 5;
pub const BITMAP_RECORD: u64 = 6;
pub const EXTEND_RECORD: u64 = 11;
/// Below this, records are the file system's own; some are reserved and empty.
pub const FIRST_USER_RECORD: u64 = 24;

/// What $Volume says.
#[derive(Debug, Default)]
pub struct About {
    pub label: Vec<u16>,
    pub flags: Option<u16>,
}

pub struct Survey<'a> {
    volume: Volume<'a>,
    boot: &'a Boot,
    pub doubts: &'a mut RecordDoubts,
    pub files: Vec<File>,
    pub names: Vec<Name>,
    pub about: About,
    pub bitmap: Option<Whole>,
    /// (first cluster, count) of every run seen.
    pub occupied: Vec<(u64, u64)>,
    listed: Vec<Record>,
    /// By the number of their base; in order of their own.
    extensions: HashMap<u64, Vec<Record>>,
}

impl<'a> Survey<'a> {
    pub fn run(volume: Volume<'a>, boot: &'a Boot, mft: &Mft, doubts: &'a mut RecordDoubts) -> Result<Self> {
        let mut survey = Self {
            volume,
            boot,
            doubts,
            files: Vec::new(),
            names: Vec::new(),
            about: About::default(),
            bitmap: None,
            occupied: Vec::new(),
            listed: Vec::new(),
            extensions: HashMap::new(),
        };
        mft.each(volume, boot, |number, claim, bytes| survey.see(number, claim, bytes))?;
        for record in std::mem::take(&mut survey.listed) {
            let number = record.number;
            if let Err(error) = survey.join(record).and_then(|record| survey.keep(record)) {
                survey.doubts.error(number, &error);
            }
        }
        survey.files.sort_unstable_by_key(|file| file.number);
        Ok(survey)
    }

    fn see(&mut self, number: u64, claim: Claim, bytes: &mut [u8]) {
        if claim == Claim::Foreign {
            let torn = if record::torn(bytes) { "marked as torn by Windows" } else { "no FILE signature" };
            return self.doubts.record(number, torn);
        }
        if let Err(error) = self.sort(number, bytes) {
            self.doubts.error(number, &error);
        }
    }

    fn sort(&mut self, number: u64, bytes: &mut [u8]) -> Result<()> {
        let record = Record::decode(number, bytes, self.boot, &mut self.occupied)?;
        if let Some(base) = record.base_mft_record {
            self.extensions.entry(base.number).or_default().push(record);
        } else if record.attributes.iter().any(|attribute| attribute.kind == attributes::ATTRIBUTE_LIST) {
            self.listed.push(record);
        } else {
            return self.keep(record);
        }
        Ok(())
    }

    /// Replaces the attributes of a base record by those that its list names, from wherever they are.
    fn join(&mut self, mut base: Record) -> Result<Record> {
        let mut extensions = self.extensions.remove(&base.number).unwrap_or_default();
        let own = Reference { number: base.number, sequence: base.sequence_number };
        extensions.retain(|extension| extension.base_mft_record == Some(own));
        let parts = base.attribute_count + extensions.iter().map(|record| record.attribute_count).sum::<u64>();
        let list = base.list(self.volume, self.boot, parts)?.unwrap_or_default();

        let mut attributes = Vec::with_capacity(parts as usize);
        for entry in list.into_iter().filter(|entry| attributes::wanted(entry.kind)) {
            let Reference { number, sequence } = entry.mft_reference;
            let holder = if number == base.number {
                Some(&mut base)
            } else {
                let index = extensions.binary_search_by_key(&number, |extension| extension.number).ok();
                index.map(|index| &mut extensions[index])
            };
            let part =
                holder.filter(|holder| holder.sequence_number == sequence).and_then(|holder| take(holder, &entry));
            attributes.push(part.ok_or_else(|| {
                Error::corrupt("$ATTRIBUTE_LIST", 0, "it names an attribute that no good record of the file holds")
            })?);
        }
        base.attributes = attributes;
        Ok(base)
    }

    /// Puts a whole record where it belongs.
    fn keep(&mut self, record: Record) -> Result<()> {
        match record.number {
            VOLUME_RECORD => self.about = about(&record),
            BITMAP_RECORD => {
                let is_data = |attribute: &Attribute| attribute.kind == attributes::DATA && attribute.name.is_empty();
                let data = record.attributes.into_iter().filter(is_data).collect();
                self.bitmap = streams::join(data, self.boot)?.pop().map(|(_, whole)| whole);
            }
            ROOT_RECORD | FIRST_USER_RECORD.. => {
                let (file, names) = files::build(self.volume, self.boot, record, self.doubts)?;
                self.files.push(file);
                self.names.extend(names);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Takes the attribute out of its record, so that no list can name it twice.
fn take(holder: &mut Record, entry: &ListEntry) -> Option<Attribute> {
    let is_it = |attribute: &Attribute| {
        (attribute.kind, attribute.instance, attribute.lowest_vcn()) == (entry.kind, entry.instance, entry.lowest_vcn)
    };
    let index = holder.attributes.iter().position(is_it)?;
    Some(holder.attributes.remove(index))
}

fn about(record: &Record) -> About {
    let mut about = About::default();
    for attribute in &record.attributes {
        match (attribute.kind, &attribute.value) {
            (attributes::VOLUME_NAME, Value::Resident(value)) => about.label = attributes::utf16(value),
            (attributes::VOLUME_INFORMATION, Value::Resident(value)) if value.len() >= 12 => {
                about.flags = Some(crate::base::bytes::le16(value, 10));
            }
            _ => {}
        }
    }
    about
}
