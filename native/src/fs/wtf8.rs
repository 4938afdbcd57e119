//! Names in UTF-16, as NTFS and FAT keep them, into the bytes of the file map.

/// UTF-8; a surrogate without its partner becomes the three bytes that UTF-8 would give it (WTF-8), so that no two
/// names of a folder become one.
pub fn wtf8(units: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(units.len());
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(letter) => bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(lone) => {
                let unit = lone.unpaired_surrogate();
                bytes.extend([0xE0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 63) as u8, 0x80 | (unit & 63) as u8]);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_lone_surrogates() {
        let units: Vec<u16> = "aé€😀".encode_utf16().collect();
        assert_eq!(wtf8(&units), "aé€😀".as_bytes());
        assert_eq!(wtf8(&[0xD83D, 0x61]), [0xED, 0xA0, 0xBD, 0x61]);
        assert_eq!(wtf8(&[0xDE00]), [0xED, 0xB8, 0x80]);
    }
}
