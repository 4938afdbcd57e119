//! From the attributes of one base record, its extensions joined, to a file and its names.

use super::attributes::{self, Attribute, FileName, StandardInformation, Value};
use super::boot::Boot;
use super::doubts::RecordDoubts;
use super::mft::{self, Record};
use super::record::Reference;
use super::special::{self, Special};
use super::streams::{self, Whole};
use super::time;
use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::disk::volume::Volume;
use crate::fs::volume_map::{Content, File, Kind, Stream};
use crate::fs::wtf8::wtf8;

/// What `ntfs-3g` shows of every file when no user mapping is given.
const MODE: u16 = 0o777;

/// One name of a file in a folder; DOS aliases are not among them.
#[derive(Debug)]
pub struct Name {
    pub child: u64,
    pub parent: Reference,
    pub name: Vec<u8>,
}

pub fn build(volume: Volume, boot: &Boot, record: Record, doubts: &mut RecordDoubts) -> Result<(File, Vec<Name>)> {
    let Record { number, sequence_number, directory, attributes, .. } = record;
    let mut data = Vec::new();
    let mut names = Vec::new();
    let mut standard_information = None;
    let (mut reparse_point, mut ea) = (None, None);
    for attribute in attributes {
        match (attribute.kind, &attribute.value) {
            (attributes::DATA, _) => data.push(attribute),
            (attributes::STANDARD_INFORMATION, Value::Resident(value)) => {
                standard_information = Some(StandardInformation::decode(value)?);
            }
            (attributes::FILE_NAME, Value::Resident(value)) => {
                let FileName { parent_directory: parent, name, dos } = FileName::decode(value)?;
                if !dos {
                    names.push(Name { child: number, parent, name: wtf8(&name) });
                }
            }
            (attributes::REPARSE_POINT, _) => reparse_point = Some(attribute),
            (attributes::EA, _) => ea = Some(attribute),
            _ => {}
        }
    }
    let Some(information) = standard_information else {
        return Err(Error::corrupt("MFT record", 0, "no $STANDARD_INFORMATION"));
    };
    let mut file = File {
        number,
        generation: u32::from(sequence_number),
        kind: if directory { Kind::Directory } else { Kind::File },
        mode: MODE,
        uid: 0,
        gid: 0,
        links: names.len().max(1) as u32,
        device: 0,
        modified: time::timestamp(information.last_data_change_time),
        changed: time::timestamp(information.last_mft_change_time),
        created: time::timestamp(information.creation_time),
        xattrs: Vec::new(),
        streams: Vec::new(),
        opaque: Vec::new(),
    };
    let mut streams = streams::join(data, boot)?;
    if directory {
        streams.retain(|(name, _)| !name.is_empty());
    }
    let special = match reparse_point {
        Some(point) => from_reparse_point(volume, boot, &file, &point, ea, doubts)?,
        None => from_content(volume, boot, &information, directory, &streams)?,
    };
    if let Some(special) = special {
        streams.retain(|(name, _)| !name.is_empty());
        apply(&mut file, special);
    }
    for (name, whole) in streams {
        file.streams.push(streams::stream(&name, whole, volume, boot)?);
    }
    Ok((file, names))
}

fn from_reparse_point(
    volume: Volume,
    boot: &Boot,
    file: &File,
    point: &Attribute,
    ea: Option<Attribute>,
    doubts: &mut RecordDoubts,
) -> Result<Option<Special>> {
    let value = mft::read_value(volume, boot, point, limits::LINK_BYTES)?;
    if let Some(reason) = special::stored_elsewhere(&value).filter(|_| file.kind == Kind::File) {
        doubts.record(file.number, reason);
    }
    let ea = ea.filter(|_| special::is_wsl_device(&value));
    let ea = ea.map(|ea| mft::read_value(volume, boot, &ea, limits::RESIDENT_BYTES as u64)).transpose()?;
    Ok(special::reparse(&value, ea.as_deref()))
}

fn from_content(
    volume: Volume,
    boot: &Boot,
    information: &StandardInformation,
    directory: bool,
    streams: &[(Vec<u16>, Whole)],
) -> Result<Option<Special>> {
    let file_attributes = information.file_attributes;
    match streams.first() {
        Some((name, whole))
            if name.is_empty() && !directory && special::may_be_interix(file_attributes, whole.size()) =>
        {
            let data = whole.read(volume, boot, limits::LINK_BYTES)?;
            Ok(data.and_then(|data| special::interix(file_attributes, &data)))
        }
        _ => Ok(None),
    }
}

fn apply(file: &mut File, special: Special) {
    match special {
        Special::Symlink(link_target) => {
            file.kind = Kind::Symlink;
            let size = link_target.len() as u64;
            let content = Content::Resident(link_target);
            file.streams.push(Stream { name: Vec::new(), size, valid: size, content });
        }
        Special::Device(kind, device) => {
            file.kind = kind;
            file.device = device;
        }
        Special::Fifo => file.kind = Kind::Fifo,
        Special::Socket => file.kind = Kind::Socket,
    }
}
