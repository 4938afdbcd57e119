//! LVM2: a partition, or a whole disk, that is a physical volume. Its linear logical volumes become volumes of their own;
//! whatever is not wholly understood stays with the physical volume and is read raw. Sources: lvm2's
//! `lib/format_text/layout.h`, `lib/label/label.h`, `lvm.conf(5)`, and what `lvm` 2.03 writes.
//!
//! Invariant: the pieces of the logical volumes, `rest` and what is free cover the physical volume exactly once.

pub mod group;
mod label;
mod text;

use crate::base::error::{Error, Result};
use crate::disk::lvm::group::Physical;
use crate::disk::volume::Volume;

/// Is there a label with a good checksum?
pub fn detect(volume: Volume) -> Result<bool> {
    Ok(label::read(volume)?.is_some())
}

/// Every copy of the metadata has to be readable, or nothing is believed: a damaged one may have been the newest.
pub fn read(volume: Volume) -> Result<Physical> {
    let label = label::read(volume)?.ok_or_else(|| Error::corrupt("LVM label", 0, "its checksum does not match"))?;
    let mut newest: Option<(i64, text::Section)> = None;
    for text in label::metadata(volume, &label)? {
        let section = text::parse(&text)?;
        let seqno = group::seqno(&section)?;
        if newest.as_ref().is_none_or(|(known, _)| seqno > *known) {
            newest = Some((seqno, section));
        }
    }
    let Some((_, section)) = newest else {
        return Err(Error::unsupported("an LVM physical volume without metadata of its own"));
    };
    group::layout(volume, &label, &section)
}
