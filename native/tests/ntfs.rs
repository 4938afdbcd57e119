//! Seeded damage to NTFS must not panic, hang or leave the volume. IMAGER_MUTATIONS raises the count, IMAGER_SEED changes
//! the run.

mod lab;
#[path = "ntfs/mutate.rs"]
mod mutate;

use lab::reader;

#[test]
fn mutations_never_panic() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    mutate::run(number("IMAGER_MUTATIONS", 3000), number("IMAGER_SEED", 9));
}
