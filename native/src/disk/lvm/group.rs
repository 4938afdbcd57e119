//! From the metadata to what lies on this physical volume. A logical volume counts as linear only if all that is said of it
//! is known here; what any other segment may use of this disk is kept.

use std::collections::{HashMap, HashSet};

use super::label::Label;
use super::text::{Node, Section};
use crate::base::error::{Error, Result};
use crate::base::limits::LVM_VOLUMES;
use crate::base::ranges::ByteRange;
use crate::disk::volume::Volume;

/// What a physical volume holds. All ranges are absolute in the source.
#[derive(Debug)]
pub struct Physical {
    /// The volume group's name.
    pub group: String,
    pub volumes: Vec<Logical>,
    /// In use or not understood. What is neither here nor in a logical volume belongs to none, and is free.
    pub rest: Vec<ByteRange>,
    /// Names of visible logical volumes that are in `rest`, and their kind.
    pub others: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Logical {
    /// From 1, in the order of the metadata, among visible ones.
    pub number: u32,
    /// "group/volume"
    pub name: String,
    /// In the order of the logical volume; neighbours joined.
    pub pieces: Vec<ByteRange>,
}

const SECTOR: u64 = 512;
const LINEAR_STATUS: [&str; 4] = ["READ", "WRITE", "VISIBLE", "FIXED_MINOR"];
const LINEAR_FLAGS: [&str; 1] = ["ACTIVATION_SKIP"];

fn corrupt(why: impl Into<String>) -> Error {
    Error::corrupt("LVM metadata", 0, why)
}

/// The one section at the top.
fn group(root: &Section) -> Result<(&str, &Section)> {
    if (root.text("contents"), root.count("version")) != (Some("Text Format Volume Group"), Some(1)) {
        return Err(Error::unsupported("LVM metadata of an unknown version"));
    }
    let mut groups = root.sections();
    match (groups.next(), groups.next()) {
        (Some(group), None) => Ok(group),
        _ => Err(corrupt("it does not describe one volume group")),
    }
}

pub fn seqno(root: &Section) -> Result<i64> {
    let seqno = group(root)?.1.count("seqno").ok_or_else(|| corrupt("it has no number"))?;
    i64::try_from(seqno).map_err(|_| corrupt("its number is too large"))
}

/// Where the extents of this physical volume lie.
struct Extents {
    /// Absolute in the source.
    start: u64,
    bytes: u64,
    count: u64,
}

impl Extents {
    fn range(&self, first: u64, count: u64) -> ByteRange {
        ByteRange { start: self.start + first * self.bytes, length: count * self.bytes }
    }
}

/// Extents that a segment uses, and the position of its logical volume.
struct Use {
    first: u64,
    count: u64,
    volume: usize,
}

pub fn layout(volume: Volume, label: &Label, root: &Section) -> Result<Physical> {
    let (group_name, group) = group(root)?;
    let (name, physical) = own(group, &label.uuid)?;
    let extents = extents(volume, label, group, physical)?;
    let empty = Section::default();
    let all: Vec<(&str, &Section)> = group.section("logical_volumes").unwrap_or(&empty).sections().collect();
    let mut uses = Vec::new();
    for (at, (_, logical)) in all.iter().enumerate() {
        for segment in segments(logical)? {
            collect(segment, name, at, &mut uses)?;
        }
    }
    uses.sort_unstable_by_key(|one| one.first);
    let apart = |pair: &[Use]| pair[0].first + pair[0].count <= pair[1].first;
    let inside = |one: &Use| one.first.checked_add(one.count).is_some_and(|end| end <= extents.count);
    if !uses.iter().all(inside) || !uses.windows(2).all(apart) {
        return Err(corrupt("segments overlap, or lie outside of the disk"));
    }
    let referred = referred(&all)?;
    let (mut volumes, mut others, mut visible) = (Vec::new(), Vec::new(), 0);
    let mut listed = HashSet::new();
    for (at, (logical_name, logical)) in all.iter().enumerate() {
        if !logical.texts("status").is_some_and(|status| status.contains(&"VISIBLE")) {
            continue;
        }
        visible += 1;
        let full = format!("{group_name}/{logical_name}");
        match pieces(logical, name, &extents)?.filter(|_| !referred.contains(logical_name) && visible <= LVM_VOLUMES) {
            Some(pieces) => {
                listed.insert(at);
                volumes.push(Logical { number: visible, name: full, pieces });
            }
            None => others.push((full, kind(logical, referred.contains(logical_name))?)),
        }
    }
    let kept = |one: &&Use| !listed.contains(&one.volume);
    let mut rest: Vec<ByteRange> = uses.iter().filter(kept).map(|one| extents.range(one.first, one.count)).collect();
    let end = extents.range(0, extents.count).end();
    rest.insert(0, ByteRange { start: volume.start, length: extents.start - volume.start });
    rest.push(ByteRange { start: end, length: volume.start + volume.length - end });
    rest.retain(|range| range.length > 0);
    Ok(Physical { group: group_name.into(), volumes, rest, others })
}

/// The section of the physical volume with this id: six dashes stand between its letters.
fn own<'a>(group: &'a Section, uuid: &[u8]) -> Result<(&'a str, &'a Section)> {
    let all = group.section("physical_volumes").ok_or_else(|| corrupt("it names no physical volumes"))?;
    let ours = |section: &Section| {
        section.text("id").is_some_and(|id| id.bytes().filter(|&byte| byte != b'-').eq(uuid.iter().copied()))
    };
    let mut found = all.sections().filter(|(_, section)| ours(section));
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        _ => Err(corrupt("it does not name this physical volume once")),
    }
}

fn extents(volume: Volume, label: &Label, group: &Section, physical: &Section) -> Result<Extents> {
    if physical.texts("flags").is_some_and(|flags| flags.contains(&"MISSING")) {
        return Err(Error::unsupported("an LVM physical volume that its group calls missing"));
    }
    let bytes = group.count("extent_size").and_then(|sectors| sectors.checked_mul(SECTOR));
    let start = physical.count("pe_start").and_then(|sectors| sectors.checked_mul(SECTOR));
    let (Some(bytes @ 1..), Some(start), Some(count)) = (bytes, start, physical.count("pe_count")) else {
        return Err(corrupt("it does not say where extents lie"));
    };
    let end = count.checked_mul(bytes).and_then(|length| length.checked_add(start));
    let Some(end) = end.filter(|&end| end <= volume.length) else {
        return Err(corrupt("its extents pass the end of the physical volume"));
    };
    if label.tables.iter().any(|table| table.start < end && start < table.end()) {
        return Err(corrupt("its extents overlap its own tables"));
    }
    Ok(Extents { start: volume.absolute(start), bytes, count })
}

/// As many as it says there are.
fn segments(logical: &Section) -> Result<Vec<&Section>> {
    let segments: Vec<&Section> =
        logical.sections().filter(|(name, _)| name.starts_with("segment")).map(|(_, section)| section).collect();
    if logical.count("segment_count") != Some(segments.len() as u64) {
        return Err(corrupt("a logical volume has other segments than it says"));
    }
    Ok(segments)
}

/// Every pair of this physical volume's name and an extent, in whatever list. How many extents a kind of segment that is
/// not known here uses is bounded by its own length.
fn collect(segment: &Section, physical: &str, volume: usize, uses: &mut Vec<Use>) -> Result<()> {
    let extents = segment.count("extent_count").filter(|&count| count > 0);
    let Some(extents) = extents else { return Err(corrupt("a segment has no length")) };
    let stripes = segment.count("stripe_count").filter(|&count| count > 0 && segment.text("type") == Some("striped"));
    let count = extents.div_ceil(stripes.unwrap_or(1));
    for (name, node) in &segment.entries {
        match node {
            Node::List(list) if name != "tags" => {
                for (at, _) in
                    list.iter().enumerate().filter(|(_, node)| matches!(node, Node::Text(it) if it == physical))
                {
                    let Some(Node::Number(first)) = list.get(at + 1) else {
                        return Err(Error::unsupported("an LVM segment that names a disk without an extent"));
                    };
                    let first = u64::try_from(*first).map_err(|_| corrupt("an extent lies below zero"))?;
                    uses.push(Use { first, count, volume });
                }
            }
            Node::Text(text) if text == physical && name != "type" => {
                return Err(Error::unsupported("an LVM segment that names a disk without an extent"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names of logical volumes that others are made of, or are about to be. The origin of a snapshot holds its own data.
fn referred<'a>(all: &[(&'a str, &'a Section)]) -> Result<HashSet<&'a str>> {
    let mut referred = HashSet::new();
    for (_, logical) in all {
        for segment in segments(logical)? {
            let plain = segment.text("type") == Some("snapshot") && segment.get("merging_store").is_none();
            for (_, node) in segment.entries.iter().filter(|(name, _)| name != "type" && !(plain && name == "origin")) {
                match node {
                    Node::Text(text) => _ = referred.insert(text.as_str()),
                    Node::List(list) => referred.extend(list.iter().filter_map(|node| match node {
                        Node::Text(text) => Some(text.as_str()),
                        _ => None,
                    })),
                    _ => {}
                }
            }
        }
    }
    Ok(referred)
}

/// The pieces of a logical volume that is linear and wholly on this physical volume.
fn pieces(logical: &Section, physical: &str, extents: &Extents) -> Result<Option<Vec<ByteRange>>> {
    let within = |name: &str, known: &[&str]| {
        logical.texts(name).is_some_and(|words| words.iter().all(|word| known.contains(word)))
    };
    if !within("status", &LINEAR_STATUS) || !within("flags", &LINEAR_FLAGS) {
        return Ok(None);
    }
    let mut starts = HashMap::new();
    for segment in segments(logical)? {
        let Some(Node::List(stripes)) = segment.get("stripes") else { return Ok(None) };
        let ([Node::Text(name), Node::Number(first)], Some("striped"), Some(1)) =
            (stripes.as_slice(), segment.text("type"), segment.count("stripe_count"))
        else {
            return Ok(None);
        };
        let (Some(start), Some(count)) = (segment.count("start_extent"), segment.count("extent_count")) else {
            return Ok(None);
        };
        if name != physical || starts.insert(start, (*first as u64, count)).is_some() {
            return Ok(None);
        }
    }
    let (mut pieces, mut next): (Vec<ByteRange>, u64) = (Vec::new(), 0);
    for _ in 0..starts.len() {
        let Some(&(first, count)) = starts.get(&next) else { return Ok(None) };
        let piece = extents.range(first, count);
        match pieces.last_mut() {
            Some(last) if last.end() == piece.start => last.length += piece.length,
            _ => pieces.push(piece),
        }
        next += count;
    }
    Ok(Some(pieces).filter(|pieces| !pieces.is_empty()))
}

/// For people: what kinds of segments it has.
fn kind(logical: &Section, referred: bool) -> Result<String> {
    let mut kinds: Vec<&str> = segments(logical)?.iter().filter_map(|segment| segment.text("type")).collect();
    kinds.dedup();
    kinds.truncate(3);
    let plain = referred && kinds == ["striped"];
    Ok(if plain { "part of another".into() } else { kinds.join(", ") })
}
