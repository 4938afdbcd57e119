//! Hostile bytes in every test run: seeded edits of good images, over all parsers (docs/fuzzing.md).
//! `IMAGER_MUTATIONS` sets the count over all parsers, `IMAGER_SEED` repeats a run.

#[path = "hostile/mod.rs"]
mod hostile;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use hostile::image::Damaged;
use hostile::random::Random;
use hostile::{Limits, PARSERS, Parser, Seed, execute, seeds};

const MUTATIONS: u64 = 9_000;
const SEED: u64 = 20_261_121;
const LIMITS: Limits = Limits { time: Duration::from_secs(1), memory: 256 << 20 };

fn attack(parser: Parser) {
    let name = parser.name();
    let seeds = seeds::all(parser, None);
    if seeds.is_empty() {
        return; // Each of them is reported as skipped.
    }
    seeds.iter().for_each(assert_seals_hold);
    let number = |name: &str, other: u64| std::env::var(name).map_or(other, |text| text.parse().unwrap());
    let (mutations, seed) = (number("IMAGER_MUTATIONS", MUTATIONS) / PARSERS.len() as u64, number("IMAGER_SEED", SEED));
    let mut random = Random(seed);
    let (started, mut mapped) = (Instant::now(), 0);
    for mutation in 0..mutations {
        let input = random.input((mutation % seeds.len() as u64) as u8);
        match catch_unwind(AssertUnwindSafe(|| execute(parser, &seeds, &input, &LIMITS))) {
            Ok(was_mapped) => mapped += u64::from(was_mapped),
            Err(_) => {
                let image = std::env::temp_dir().join(format!("imager-hostile-{name}.img"));
                hostile::save(&seeds, &input, &image);
                panic!("{name}: mutation {mutation} of seed {seed}; the image is kept as {}", image.display());
            }
        }
    }
    println!("{name}: {mutations} edits of {} images, {mapped} mapped, {:?}", seeds.len(), started.elapsed());
    assert!(parser.is_table() || parser == Parser::Recognise || mapped * 2 > mutations, "{mapped} are mapped");
}

/// The checksums that edits are given are those that each file system's own tools compute.
fn assert_seals_hold(seed: &Seed) {
    let mut sealed = Damaged::new(&seed.image);
    for region in seed.layout.regions() {
        if let Some(seal) = region.seal {
            seal(&mut sealed, region);
            let length = region.length as usize;
            let good = Damaged::new(&seed.image).get(region.at, length);
            assert!(sealed.get(region.at, length) == good, "{}: the seal at byte {}", seed.name, region.at);
        }
    }
}

macro_rules! attacks {
    ($($name:ident: $parser:ident),*) => { $(#[test] fn $name() { attack(Parser::$parser); })* };
}

attacks!(gpt: Gpt, mbr: Mbr, ext: Ext, ntfs: Ntfs, xfs: Xfs, btrfs: Btrfs, fat: Fat, exfat: Exfat, recognise: Recognise);
