//! What of a disk the last snapshot holds already: blocks of files whose records did not change are taken over without
//! being read. Some of them are read all the same, other ones in each run, so that a change that left no trace is found.

use crate::base::error::Result;
use crate::base::limits::BLOCK_BYTES;
use crate::base::ranges::{ByteRange, holds};
use crate::formats::page::MapEntry;
use crate::map::cut::Piece;
use crate::snapshot::parent::Parent;

/// Each block that is taken over is read again once in so many runs.
pub const ROTATION: u64 = 20;

pub struct Reuse {
    parent: Parent,
    /// What belongs to unchanged files alone, a set.
    unchanged: Vec<ByteRange>,
    turn: u64,
}

/// What is to be done with a block.
pub enum Known {
    No,
    /// Its entries of the map: where it lies on the disk, and which block is stored.
    Same(Vec<MapEntry>),
    /// Its turn has come: it must have this key. Zeros have none.
    Sampled([u8; 32]),
}

impl Reuse {
    /// `run`: the number of this snapshot of the disk.
    pub fn new(parent: Parent, unchanged: Vec<ByteRange>, run: u64) -> Self {
        Self { parent, unchanged, turn: run % ROTATION }
    }

    pub fn look(&mut self, pieces: &[Piece]) -> Result<Known> {
        let range = |piece: &Piece| ByteRange { start: piece.disk, length: piece.length.into() };
        if !pieces.iter().all(|piece| holds(&self.unchanged, range(piece))) {
            return Ok(Known::No);
        }
        let Some(entries) = self.parent.block(pieces)? else { return Ok(Known::No) };
        let position = pieces.first().map_or(0, |piece| piece.disk / BLOCK_BYTES as u64);
        // Fibonacci hashing: neighbours have different turns, each the same in every run.
        let turn = position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        if turn % ROTATION == self.turn {
            return Ok(Known::Sampled(entries[0].block.key));
        }
        Ok(Known::Same(entries))
    }
}
