//! Damage to LVM's metadata, with its checksums made right again, thousands of times: nothing panics, and what is said of
//! the disk covers it once. `IMAGER_FUZZ_CASES` prolongs it, `IMAGER_SEED` repeats one run.

#[path = "lvm/build.rs"]
mod build;
#[path = "../src/base/xorshift.rs"]
mod xorshift;

use build::{Area, MIB, group, label, linear, volume};
use imager_native::base::ranges::ByteRange;
use imager_native::disk::lvm;
use imager_native::disk::volume::Volume;
use imager_native::map::cut;
use imager_native::map::scan::Scan;
use xorshift::Random;

const EXTENT: u64 = 64 << 10;
const LENGTH: u64 = MIB + 100 * EXTENT;
/// What a quiet machine did in the four seconds that this took when it went by the clock.
const CASES: u64 = 8000;
const WORDS: [&str; 20] = [
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "99",
    "100",
    "1",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\"pv0\"",
    ", ",
    "\"pv0\", 5",
    "segment1",
    "type = \"thin\"\n",
    "=",
    "#",
    "\n",
];

impl Random {
    fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }
}

/// Some bytes changed, a word put in, a stretch taken out or doubled.
fn damaged(text: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.index(4) {
        let at = random.index(bytes.len());
        let end = (at + random.index(30)).min(bytes.len());
        match random.index(5) {
            0 => bytes[at] = random.index(256) as u8,
            1 => _ = bytes.splice(at..at, WORDS[random.index(WORDS.len())].bytes()),
            2 => _ = bytes.splice(at..end, WORDS[random.index(WORDS.len())].bytes()),
            3 => _ = bytes.drain(at..end),
            _ => {
                let number = bytes.iter().skip(at).position(u8::is_ascii_digit).map_or(at, |more| at + more);
                bytes[number] = b'0' + random.index(10) as u8;
            }
        }
        if bytes.is_empty() {
            bytes.push(b'a');
        }
    }
    bytes
}

/// Sorted; that they do not overlap and lie within the disk is what is to be shown.
fn assert_disjoint(mut ranges: Vec<ByteRange>, length: u64, case: &str) -> u64 {
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].end() <= pair[1].start), "{case}: {ranges:?}");
    assert!(ranges.iter().all(|range| range.length > 0 && range.end() <= length), "{case}: {ranges:?}");
    ranges.iter().map(|range| range.length).sum()
}

#[test]
fn damaged_metadata_never_panics_and_covers_the_disk_once() {
    let seed = std::env::var("IMAGER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x1234_5678_9abc_def1);
    let cases = std::env::var("IMAGER_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let cow = "start_extent=0\nextent_count=30\ntype=\"snapshot\"\nchunk_size=8\norigin=\"root\"\ncow_store=\"snap\"";
    let text = group(
        3,
        &[
            volume("root", true, &[&linear(0, 10, 3), &linear(10, 20, 40)]),
            volume("home", true, &[&linear(0, 7, 20)]),
            volume("snap", true, &[&linear(0, 4, 80)]),
            volume("snapshot0", false, &[cow]),
        ]
        .concat(),
    );
    let mut random = Random(seed);
    let (mut read, mut whole) = (0u64, 0u64);
    let mut bytes = vec![0; LENGTH as usize];
    for number in 1..=cases {
        let case = format!("seed {seed}, case {number}");
        let text = String::from_utf8_lossy(&damaged(&text, &mut random)).into_owned();
        bytes[..16_384].fill(0);
        label(&mut bytes, LENGTH, &[Area::first(&text)]);
        if random.index(8) == 0 {
            let at = [512 + random.index(512), 4096 + random.index(512)][random.index(2)];
            bytes[at] = random.index(256) as u8;
            let sum = build::checksum(&bytes[4100..4608]);
            bytes[4096..4100].copy_from_slice(&sum.to_le_bytes());
            let sum = build::checksum(&bytes[532..1024]);
            bytes[528..532].copy_from_slice(&sum.to_le_bytes());
        }
        if let Ok(physical) = lvm::read(Volume::whole(&bytes)) {
            read += 1;
            let pieces = physical.volumes.iter().flat_map(|logical| logical.pieces.clone());
            let covered = assert_disjoint(pieces.chain(physical.rest.clone()).collect(), LENGTH, &case);
            assert!(covered >= MIB, "{case}: its tables are held");
            assert_eq!(physical.rest[0].start, 0, "{case}");
            whole += u64::from(physical.volumes.len() == 2);
        }
        if number % 16 == 0 {
            let scan = Scan::new(&bytes, true).unwrap();
            let stretches = scan.cut().stretches;
            let held =
                stretches.iter().map(|one: &cut::Stretch| ByteRange { start: one.disk, length: one.length }).collect();
            let held = assert_disjoint(held, LENGTH, &case);
            assert_eq!(held, scan.allocated().iter().map(|range| range.length).sum::<u64>(), "{case}");
        }
    }
    println!("lvm: {cases} cases, {read} of them read, {whole} with all their volumes");
    assert!(read > cases / 20 && whole > 5 && read < cases);
}
