//! Physical volumes of LVM made by hand: label, metadata areas, and a text in them.

pub const MIB: u64 = 1 << 20;
pub const UUID: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const ID: &str = "012345-6789-abcd-efgh-ijkl-mnop-qrstuv";

/// Bit by bit, so that it shares nothing with what it checks.
pub fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf_u32, |mut crc, &byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
        crc
    })
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A text for a metadata area: where the area lies, and where in its ring the text begins.
pub struct Area<'a> {
    pub start: u64,
    pub bytes: u64,
    pub text: &'a str,
    pub text_at: u64,
    pub ignored: bool,
}

impl<'a> Area<'a> {
    pub fn first(text: &'a str) -> Self {
        Self { start: 4096, bytes: MIB - 4096, text, text_at: 512, ignored: false }
    }
}

/// A physical volume of `length` bytes at the start of `disk`.
pub fn label(disk: &mut [u8], length: u64, areas: &[Area]) {
    let sector = &mut disk[512..1024];
    put(sector, 0, b"LABELONE");
    put(sector, 8, &1u64.to_le_bytes());
    put(sector, 20, &32u32.to_le_bytes());
    put(sector, 24, b"LVM2 001");
    put(sector, 32, UUID);
    put(sector, 64, &length.to_le_bytes());
    put(sector, 72, &MIB.to_le_bytes());
    for (at, area) in areas.iter().enumerate() {
        put(sector, 104 + 16 * at, &area.start.to_le_bytes());
        put(sector, 112 + 16 * at, &area.bytes.to_le_bytes());
    }
    let sum = checksum(&sector[20..]);
    put(sector, 16, &sum.to_le_bytes());
    for area in areas {
        write_area(disk, area);
    }
}

pub fn write_area(disk: &mut [u8], area: &Area) {
    let bytes = &mut disk[area.start as usize..][..area.bytes as usize];
    let text = [area.text.as_bytes(), &[0]].concat();
    for (at, &byte) in text.iter().enumerate() {
        let place = area.text_at as usize - 512 + at;
        bytes[512 + place % (area.bytes as usize - 512)] = byte;
    }
    put(bytes, 4, b"\x20LVM2 x[5A%r0N*>");
    put(bytes, 20, &1u32.to_le_bytes());
    put(bytes, 24, &area.start.to_le_bytes());
    put(bytes, 32, &area.bytes.to_le_bytes());
    put(bytes, 40, &area.text_at.to_le_bytes());
    put(bytes, 48, &(text.len() as u64).to_le_bytes());
    put(bytes, 56, &checksum(&text).to_le_bytes());
    put(bytes, 60, &u32::from(area.ignored).to_le_bytes());
    let sum = checksum(&bytes[4..512]);
    put(bytes, 0, &sum.to_le_bytes());
}

/// A group of extents of 64 KiB, of which this disk has 100 from 1 MiB on and `pv1` lies elsewhere.
pub fn group(seqno: u32, logical: &str) -> String {
    format!(
        "vg {{\nid = \"x\"\nseqno = {seqno}\nformat = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []\n\
         extent_size = 128\nphysical_volumes {{\npv0 {{\nid = \"{ID}\"\nstatus = [\"ALLOCATABLE\"]\nflags = []\n\
         pe_start = 2048\npe_count = 100\n}}\npv1 {{\nid = \"y\"\npe_start = 2048\npe_count = 9\n}}\n}}\n\
         logical_volumes {{\n{logical}\n}}\n}}\n# made by hand\ncontents = \"Text Format Volume Group\"\nversion = 1\n"
    )
}

pub fn volume(name: &str, visible: bool, segments: &[&str]) -> String {
    let status = if visible { ", \"VISIBLE\"" } else { "" };
    let count = segments.len();
    let head = format!("{name} {{\nstatus = [\"READ\", \"WRITE\"{status}]\nflags = []\nsegment_count = {count}\n");
    let body: Vec<String> =
        segments.iter().enumerate().map(|(at, text)| format!("segment{} {{\n{text}\n}}\n", at + 1)).collect();
    head + &body.concat() + "}\n"
}

pub fn linear(start: u64, count: u64, first: u64) -> String {
    format!(
        "start_extent = {start}\nextent_count = {count}\ntype = \"striped\"\nstripe_count = 1\nstripes = [\n\"pv0\", {first}\n]"
    )
}
