//! What the targets share: images and first inputs are made once and kept, so that an input found later means the same.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::hostile::random::Random;
use crate::hostile::{self, Limits, Parser, Seed, execute, seeds};

const LIMITS: Limits = Limits { time: Duration::from_secs(1), memory: 256 << 20 };
const FIRST_INPUTS: u8 = 40;
static SEEDS: OnceLock<Vec<Seed>> = OnceLock::new();

pub fn begin(parser: Parser) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = SEEDS.get_or_init(|| seeds::all(parser, Some(&here.join("images"))));
    assert!(!seeds.is_empty(), "no image of {} can be made here", parser.name());
    for seed in seeds {
        println!("{}, {} KiB: regions: {}", seed.name, seed.image.length >> 10, seed.layout.describe());
    }
    let corpus = here.join("corpus").join(parser.name());
    fs::create_dir_all(&corpus).unwrap();
    let mut random = Random(1);
    for image in 0..seeds.len() as u8 {
        for number in 0..FIRST_INPUTS {
            let _ = fs::write(corpus.join(format!("first-{image}-{number}")), random.input(image));
        }
    }
}

/// With `IMAGER_SAVE` set, the image that an input means is written there first.
pub fn run(parser: Parser, input: &[u8]) {
    if let Some(path) = std::env::var_os("IMAGER_SAVE") {
        hostile::save(SEEDS.get().unwrap(), input, Path::new(&path));
    }
    execute(parser, SEEDS.get().unwrap(), input, &LIMITS);
}

/// Half of the changes go edit by edit, half are the fuzzer's own.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    if seed % 2 == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, most);
    }
    let mut input = data[..size].to_vec();
    let mut random = Random(u64::from(seed));
    (0..=random.below(3)).for_each(|_| random.change(&mut input, most));
    data[..input.len()].copy_from_slice(&input);
    input.len()
}
