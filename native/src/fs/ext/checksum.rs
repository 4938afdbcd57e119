//! The two checksums of ext4's metadata, as the kernel computes them: without the final inversion of the usual
//! CRC-32C, so that a sum can be carried on, and a CRC-16 for descriptors of older volumes.

const CRC16_POLYNOMIAL: u16 = 0xa001;

/// `ext4_chksum`: CRC-32C carried on from `seed`, inverted neither before nor after.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// The kernel's `crc16`, carried on from `seed`.
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| (crc >> 1) ^ (if crc & 1 == 1 { CRC16_POLYNOMIAL } else { 0 }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_the_catalogues_hold() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        assert_eq!(crc32c(crc32c(7, b"12345"), b"6789"), crc32c(7, b"123456789"));
    }
}
