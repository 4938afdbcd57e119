#![no_main]

mod common;
#[path = "../../tests/hostile/mod.rs"]
mod hostile;

use hostile::Parser::Ext;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(init: common::begin(Ext), |input: &[u8]| common::run(Ext, input));
fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| { common::mutate(data, size, most, seed) });
