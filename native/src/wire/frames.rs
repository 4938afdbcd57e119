//! Frames (`formats/frame.rs`) on a connection.

use super::broken::Broken;
use super::stream::{Side, Stream};
use crate::base::limits::FRAME_BYTES;
use crate::formats::frame::Kind;

pub fn write_frame<S: Side>(stream: &mut Stream<S>, kind: Kind, bytes: &[u8]) -> Result<(), Broken> {
    let length = u32::try_from(bytes.len()).ok().filter(|&length| length as usize <= FRAME_BYTES);
    let length = length.ok_or(Broken::Malformed("a frame that is too long"))?;
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(bytes);
    stream.write_all(&frame)
}

pub fn read_frame<S: Side>(stream: &mut Stream<S>) -> Result<(Kind, Vec<u8>), Broken> {
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    read_frame_of(kind[0], stream)
}

/// The rest of a frame whose first byte is known.
pub fn read_frame_of<S: Side>(kind: u8, stream: &mut Stream<S>) -> Result<(Kind, Vec<u8>), Broken> {
    let kind = Kind::decode(kind).ok_or(Broken::Malformed("a frame of an unknown kind"))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES {
        return Err(Broken::Malformed("a frame that is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}
