//! Thousands of small damages to a real volume. Words under fixups are left alone, so that each gets past the first
//! check and deep into the parser.

use std::time::{Duration, Instant};

use imager_native::fs::{Content, ntfs};
use imager_native::volume::Volume;

use crate::lab::{Random, Scratch};
use crate::reader;

const RECORD: usize = 1024;

/// A small volume with a bit of everything: lists, compression, links, named streams, fragments.
fn small_volume() -> Option<Vec<u8>> {
    let scratch = Scratch::new("mutate");
    Some(std::fs::read(scratch.image("ntfs-tiny", 8)?).unwrap())
}

/// One damage: where, and the bytes that go there.
fn damage(image: &[u8], records: &[usize], random: &mut Random) -> (usize, Vec<u8>) {
    let interesting: [u64; 12] =
        [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff_ffff, 0xffff_ffff, 1 << 47, i64::MAX as u64, u64::MAX];
    let at = match random.below(16) {
        0 => random.below(512) as usize,
        1 => random.below(image.len() as u64 - 8) as usize,
        // Most often the used part of a record; its header and first attributes twice as often.
        kind => {
            let record = records[random.below(records.len() as u64) as usize];
            record + random.below(if kind < 8 { 0x100 } else { 0x300 }) as usize
        }
    };
    let at = at - at % 512 / 510 * 2;
    let width = 1usize << random.below(4);
    let value = match random.below(3) {
        0 => interesting[random.below(12) as usize],
        1 => random.next(),
        _ => u64::from(image[at]) ^ 1 << random.below(8),
    };
    let room = (510 - at % 512).min(width);
    (at, value.to_le_bytes()[..room].to_vec())
}

pub fn run(count: u64, seed: u64) {
    let Some(mut image) = small_volume() else { return };
    let mut random = Random(seed);
    let in_use = |at: &usize| &image[*at..at + 4] == b"FILE" && image[at + 0x16] & 1 != 0;
    let records: Vec<usize> = (0..image.len() / RECORD).map(|index| index * RECORD).filter(in_use).collect();
    assert!(records.len() > 50);
    let good = ntfs::map(Volume::whole(&image)).unwrap();
    let most = good.files.iter().flat_map(|file| &file.streams).map(|stream| match &stream.content {
        Content::Resident(_) => 0,
        Content::Extents(extents) => extents.len(),
    });
    assert!(most.max() > Some(100), "nothing is fragmented");
    let (mut mapped, mut doubted, mut slowest) = (0u64, 0u64, Duration::ZERO);
    for number in 0..count {
        let damages: Vec<_> = (0..1 + random.below(3)).map(|_| damage(&image, &records, &mut random)).collect();
        let mut kept = Vec::new();
        for (at, bytes) in &damages {
            kept.push((*at, image[*at..at + bytes.len()].to_vec()));
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        let start = Instant::now();
        let result = std::panic::catch_unwind(|| ntfs::map(Volume::whole(&image)));
        let took = start.elapsed();
        let Ok(result) = result else { panic!("seed {seed}, mutation {number}: {damages:x?} panics") };
        assert!(took < Duration::from_secs(1), "seed {seed}, mutation {number}: {damages:x?} took {took:?}");
        slowest = slowest.max(took);
        if let Ok(map) = result {
            reader::check(&map, 0, image.len() as u64);
            mapped += 1;
            doubted += u64::from(!map.doubts.is_empty());
        }
        for (at, bytes) in kept.into_iter().rev() {
            image[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
    eprintln!("{count} mutations of seed {seed}: {mapped} mapped, {doubted} with doubts, slowest {slowest:?}");
    assert!(mapped > count / 2 && doubted > count / 10);
}
