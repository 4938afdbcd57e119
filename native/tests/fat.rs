//! Seeded damage to FAT and exFAT must not panic, hang or leave the volume. `IMAGER_MUTATIONS` sets the count,
//! `IMAGER_SEED` repeats a run.

mod lab;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use imager_native::fs::{Outcome, map_volume};
use imager_native::volume::Volume;
use lab::{Random, Scratch, mapped, reader};

const SEED: u64 = 20_261_121;
const MUTATIONS: u64 = 3000;
const MOST: Duration = Duration::from_secs(1);

#[test]
fn damage_never_panics_hangs_or_leaves_the_volume() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let mutations = variable("IMAGER_MUTATIONS").unwrap_or(MUTATIONS);
    let seed = variable("IMAGER_SEED").unwrap_or(SEED).max(1);
    let images = damageable();
    if images.is_empty() {
        return;
    }
    let used: Vec<Vec<usize>> = images.iter().map(|image| used(image)).collect();
    let mut random = Random(seed);
    let begun = Instant::now();
    let (mut mapped, mut slowest) = (0, Duration::ZERO);
    for number in 0..mutations {
        let at = number as usize % images.len();
        let damaged = damage(&images[at], &used[at], &mut random);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| map_volume(Volume::whole(&damaged))));
        let elapsed = started.elapsed();
        let outcome = outcome.unwrap_or_else(|_| panic!("mutation {number} of seed {seed} panicked"));
        assert!(elapsed < MOST, "mutation {number} of seed {seed} took {elapsed:?}");
        slowest = slowest.max(elapsed);
        if let Outcome::Mapped(map) = outcome {
            mapped += 1;
            reader::check(&map, 0, damaged.len() as u64);
        }
    }
    eprintln!(
        "fat: {:?}, {mutations} mutations of {} images, {mapped} mapped, slowest {slowest:?}",
        begun.elapsed(),
        images.len()
    );
    assert!(mapped * 10 > mutations * 7, "most damage should reach the files: {mapped}");
}

fn damageable() -> Vec<Vec<u8>> {
    let images = ["fat-12-tiny", "fat-16-tiny", "fat-32-tiny", "exfat-tiny"].into_iter().filter_map(|name| {
        let scratch = Scratch::new(name);
        let mut image = std::fs::read(scratch.image(name, 1)?).unwrap();
        if name == "fat-32-tiny" {
            // mtools takes no small one for FAT32: made small when it is filled. The files lie in front.
            let sectors = 3400u32;
            image[0x20..0x24].copy_from_slice(&sectors.to_le_bytes());
            image.truncate(sectors as usize * 512);
        }
        let map = mapped(&image);
        assert!(map.doubts.is_empty() && map.files.len() > 25, "{name}: {:?}", map.doubts);
        Some(image)
    });
    images.collect()
}

/// Slots of 32 bytes that are not all zeros.
fn used(image: &[u8]) -> Vec<usize> {
    (0..image.len() / 32).filter(|at| image[at * 32..][..32].iter().any(|&byte| byte != 0)).collect()
}

/// One to twelve edits, most of them where something is; exFAT's sums are made right again three times out of four.
fn damage(image: &[u8], used: &[usize], random: &mut Random) -> Vec<u8> {
    let mut bytes = image.to_vec();
    let exfat = &image[3..8] == b"EXFAT";
    for _ in 0..1 + random.below(12) {
        let from = match random.below(16) {
            0 if !exfat => random.below(64),
            0..=13 => used[random.below(used.len() as u64) as usize] as u64 * 32 + random.below(32),
            _ => random.below(bytes.len() as u64),
        } as usize;
        if exfat && from < 24 * 512 && random.below(50) > 0 {
            continue;
        }
        let at = from.min(bytes.len() - 4) & !3;
        let value = match random.below(6) {
            0 => 0,
            1 => u32::MAX,
            2 => random.next() as u32 % 1024,
            3 => 1 << random.below(32),
            _ => random.next() as u32,
        };
        match random.below(3) {
            0 => bytes[at + random.below(4) as usize] = value as u8,
            1 => bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes()),
            _ => bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()),
        }
    }
    if exfat && random.below(4) > 0 {
        used.iter().for_each(|&slot| seal(&mut bytes, slot * 32));
    }
    bytes
}

/// The checksum of an entry set, where one begins.
fn seal(bytes: &mut [u8], at: usize) {
    let length = (usize::from(bytes[at + 1]) + 1) * 32;
    if bytes[at] == 0x85 && length <= 640 && at + length <= bytes.len() {
        let counted = bytes[at..at + length].iter().enumerate().filter(|(at, _)| !matches!(at, 2 | 3));
        let sum = counted.fold(0u16, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(u16::from(byte)));
        bytes[at + 2..at + 4].copy_from_slice(&sum.to_le_bytes());
    }
}
