//! What a listing asks of decoded pages: many names and the attributes of many files at once, with no object for each.

use napi::bindgen_prelude::{BigUint64Array, Buffer, ClassInstance, Float64Array, Result, Uint8Array, Uint32Array};
use napi_derive::napi;

use super::formats::{ManifestPage, PageRef, wrong_kind};
use crate::formats::page::{DirectoryRow, IndexEntry, Page};
use crate::fs::volume_map::{Content, File};
use crate::mount::layout::{ATTRIBUTES_BYTES, encode_attributes};

/// Children of a folder, sorted by the bytes of their names.
#[napi(object)]
pub struct DirectoryNames {
    /// Back to back; each ends where `ends` says.
    pub names: Buffer,
    pub ends: Uint32Array,
    pub numbers: Float64Array,
    /// As `fs::Kind`.
    pub kinds: Uint8Array,
}

/// The children of an index page, in its order: the keys of each, inclusive, and its birth number.
#[napi(object)]
pub struct IndexKeys {
    pub firsts: Float64Array,
    pub lasts: Float64Array,
    pub births: BigUint64Array,
}

#[napi]
impl ManifestPage {
    /// Of an index page.
    #[napi]
    pub fn keys(&self) -> Result<IndexKeys> {
        let Page::Index { entries, .. } = &*self.0 else { return Err(wrong_kind()) };
        let each = |value: fn(&IndexEntry) -> u64| {
            Float64Array::new(entries.iter().map(|entry| value(entry) as f64).collect())
        };
        Ok(IndexKeys {
            firsts: each(|entry| entry.first),
            lasts: each(|entry| entry.last),
            births: entries.iter().map(|entry| entry.child.birth).collect::<Vec<_>>().into(),
        })
    }

    /// Of an index page: what opens one of its children.
    #[napi]
    pub fn entry(&self, index: u32) -> Result<PageRef> {
        let Page::Index { entries, .. } = &*self.0 else { return Err(wrong_kind()) };
        entries.get(index as usize).map(|entry| PageRef(entry.child)).ok_or_else(wrong_kind)
    }

    /// About how much memory the page takes, for whoever keeps pages.
    #[napi(getter)]
    pub fn memory_bytes(&self) -> f64 {
        let bytes = match &*self.0 {
            Page::Map(entries) => size_of_val(entries.as_slice()),
            Page::Index { entries, .. } => size_of_val(entries.as_slice()),
            Page::Directory(rows) => rows.iter().map(|row| size_of::<DirectoryRow>() + row.name.len()).sum(),
            Page::Files(files) => files.iter().map(file_bytes).sum(),
            Page::Root { description, tops } => description.len() + size_of_val(tops.as_slice()),
        };
        bytes as f64
    }

    /// Of a directory page: up to `limit` names of a folder behind `after`.
    #[napi]
    pub fn names(&self, parent: f64, after: Option<Uint8Array>, limit: u32) -> Result<DirectoryNames> {
        let Page::Directory(rows) = &*self.0 else { return Err(wrong_kind()) };
        let parent = parent as u64;
        let from = rows.partition_point(|row| match &after {
            Some(after) => (row.parent, row.name.as_slice()) <= (parent, after.as_ref()),
            None => row.parent < parent,
        });
        let rows = &rows[from..];
        let rows = &rows[..rows.partition_point(|row| row.parent == parent).min(limit as usize)];
        let names = rows.iter().flat_map(|row| row.name.iter().copied()).collect::<Vec<_>>();
        let ends = rows.iter().scan(0, |end, row| {
            *end += row.name.len() as u32;
            Some(*end)
        });
        Ok(DirectoryNames {
            names: names.into(),
            ends: Uint32Array::new(ends.collect()),
            numbers: Float64Array::new(rows.iter().map(|row| row.child as f64).collect()),
            kinds: Uint8Array::new(rows.iter().map(|row| row.kind).collect()),
        })
    }

    /// Of a directory page: does it begin with this name of this folder, or before it?
    #[napi]
    pub fn begins_by(&self, parent: f64, name: Uint8Array) -> Result<bool> {
        let Page::Directory(rows) = &*self.0 else { return Err(wrong_kind()) };
        let first = rows.first();
        Ok(first.is_some_and(|row| (row.parent, row.name.as_slice()) <= (parent as u64, name.as_ref())))
    }
}

fn file_bytes(file: &File) -> usize {
    let xattrs: usize =
        file.xattrs.iter().map(|(name, value)| size_of_val(&(name, value)) + name.len() + value.len()).sum();
    let content = |content: &Content| match content {
        Content::Resident(bytes) => bytes.len(),
        Content::Extents(extents) => size_of_val(extents.as_slice()),
    };
    let streams = file.streams.iter().map(|stream| size_of_val(stream) + stream.name.len() + content(&stream.content));
    size_of_val(file) + xattrs + streams.sum::<usize>() + file.opaque.len()
}

/// The attributes of many files, 72 bytes each as `src/mount/attributes.ts` writes them, with volume 0; zeros for a file
/// that none of the file pages holds. A file that goes on in the next page needs both.
#[napi]
pub fn file_attributes(pages: Vec<ClassInstance<ManifestPage>>, numbers: Float64Array) -> Result<Buffer> {
    let pages = pages.iter().map(|page| match &*page.0 {
        Page::Files(files) => Ok(files.as_slice()),
        _ => Err(wrong_kind()),
    });
    let pages = pages.collect::<Result<Vec<_>>>()?;
    let mut bytes = Vec::with_capacity(numbers.len() * ATTRIBUTES_BYTES);
    for number in numbers.iter() {
        let number = *number as u64;
        let parts = pages.iter().filter_map(|files| {
            let found = files.binary_search_by_key(&number, |file| file.number).ok()?;
            Some(&files[found])
        });
        bytes.extend_from_slice(&encode_attributes(parts));
    }
    Ok(bytes.into())
}
