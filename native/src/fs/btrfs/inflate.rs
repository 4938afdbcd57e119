//! zlib streams (RFC 1950, 1951), for extents of at most 128 KiB: canonical codes are decoded bit by bit.

use super::corrupt::corrupt;
use crate::base::error::Result;

const LENGTH_BASE: [u16; 29] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS: [u8; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
    8193, 12289, 16385, 24577,
];
const DISTANCE_BITS: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const CODE_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const MOST_CODE_BITS: usize = 15;

/// The first `most` bytes. The checksum behind the stream is not compared: btrfs has one of its own over the extent.
pub fn zlib(packed: &[u8], most: usize) -> Result<Vec<u8>> {
    let &[cmf, flg, ref stream @ ..] = packed else { return Err(corrupt("a zlib stream is cut")) };
    if cmf & 0xf != 8 || (u16::from(cmf) << 8 | u16::from(flg)) % 31 != 0 || flg & 0x20 != 0 {
        return Err(corrupt("this is no zlib stream"));
    }
    let mut bits = Bits { bytes: stream, at: 0, held: 0, count: 0 };
    let mut raw = Vec::with_capacity(most);
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut raw, most)?,
            1 => {
                let mut lengths = [8u8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                block(&mut bits, &Codes::new(&lengths)?, &Codes::new(&[5; 30])?, &mut raw, most)?;
            }
            2 => {
                let (literals, distances) = dynamic(&mut bits)?;
                block(&mut bits, &literals, &distances, &mut raw, most)?;
            }
            _ => return Err(corrupt("a block of an unknown type")),
        }
        if last || raw.len() >= most {
            raw.truncate(most);
            return Ok(raw);
        }
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    /// At most 16, the lowest first.
    fn take(&mut self, count: u32) -> Result<u32> {
        while self.count < count {
            let byte = self.bytes.get(self.at).ok_or_else(|| corrupt("a zlib stream is cut"))?;
            self.held |= u32::from(*byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
        let value = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Ok(value)
    }
}

/// A canonical Huffman code: how many codes have each length, and the symbols by code.
struct Codes {
    counts: [u16; MOST_CODE_BITS + 1],
    symbols: Vec<u16>,
}

impl Codes {
    fn new(lengths: &[u8]) -> Result<Self> {
        let mut counts = [0u16; MOST_CODE_BITS + 1];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;
        let mut left = 1i32;
        for &count in &counts[1..] {
            left = (left << 1) - i32::from(count);
            if left < 0 {
                return Err(corrupt("a code is given twice"));
            }
        }
        let mut symbols: Vec<u16> = (0..lengths.len() as u16).filter(|&at| lengths[usize::from(at)] != 0).collect();
        symbols.sort_by_key(|&symbol| lengths[usize::from(symbol)]);
        Ok(Self { counts, symbols })
    }

    fn decode(&self, bits: &mut Bits) -> Result<usize> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for &count in &self.counts[1..] {
            code |= bits.take(1)?;
            let count = u32::from(count);
            if code < first + count {
                return Ok(usize::from(self.symbols[(index + code - first) as usize]));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(corrupt("a code that stands for nothing"))
    }
}

fn dynamic(bits: &mut Bits) -> Result<(Codes, Codes)> {
    let (literals, distances) = (bits.take(5)? as usize + 257, bits.take(5)? as usize + 1);
    let count = bits.take(4)? as usize + 4;
    let mut lengths = [0u8; 19];
    for &at in &CODE_ORDER[..count] {
        lengths[at] = bits.take(3)? as u8;
    }
    let codes = Codes::new(&lengths)?;
    let mut lengths = Vec::with_capacity(literals + distances);
    while lengths.len() < literals + distances {
        let (value, repeat) = match codes.decode(bits)? {
            16 => {
                let last = *lengths.last().ok_or_else(|| corrupt("nothing to repeat"))?;
                (last, bits.take(2)? + 3)
            }
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (length as u8, 1),
        };
        lengths.resize(lengths.len() + repeat as usize, value);
    }
    if lengths.len() > literals + distances {
        return Err(corrupt("more codes than announced"));
    }
    Ok((Codes::new(&lengths[..literals])?, Codes::new(&lengths[literals..])?))
}

fn stored(bits: &mut Bits, raw: &mut Vec<u8>, most: usize) -> Result<()> {
    bits.take(bits.count % 8)?;
    let (length, complement) = (bits.take(16)?, bits.take(16)?);
    if length != !complement & 0xffff {
        return Err(corrupt("the length of a stored block"));
    }
    for _ in 0..length {
        if raw.len() >= most {
            break;
        }
        raw.push(bits.take(8)? as u8);
    }
    Ok(())
}

fn block(bits: &mut Bits, literals: &Codes, distances: &Codes, raw: &mut Vec<u8>, most: usize) -> Result<()> {
    while raw.len() < most {
        let symbol = literals.decode(bits)?;
        if symbol < 256 {
            raw.push(symbol as u8);
            continue;
        }
        if symbol == 256 {
            return Ok(());
        }
        let pair = LENGTH_BASE.get(symbol - 257).zip(LENGTH_BITS.get(symbol - 257));
        let (base, extra) = pair.ok_or_else(|| corrupt("a length that does not exist"))?;
        let length = usize::from(*base) + bits.take((*extra).into())? as usize;
        let symbol = distances.decode(bits)?;
        let pair = DISTANCE_BASE.get(symbol).zip(DISTANCE_BITS.get(symbol));
        let (base, extra) = pair.ok_or_else(|| corrupt("a distance that does not exist"))?;
        let distance = usize::from(*base) + bits.take((*extra).into())? as usize;
        repeat(raw, distance, length)?;
    }
    Ok(())
}

/// The last `distance` bytes again, which may overlap what is being written.
pub fn repeat(raw: &mut Vec<u8>, distance: usize, length: usize) -> Result<()> {
    let from = raw.len().checked_sub(distance).ok_or_else(|| corrupt("a distance before the start"))?;
    for at in from..from + length {
        raw.push(raw[at]);
    }
    Ok(())
}
