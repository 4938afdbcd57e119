//! FAT's own encodings of names and times, turned into those of the file map.

use crate::fs::volume_map::Timestamp;

/// Letters 0x80 to 0xFF of code page 437, which Linux takes where nothing else is said; the volume itself does not say
/// which one its short names are in.
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

pub fn oem(bytes: &[u8]) -> String {
    let letter = |&byte: &u8| match byte {
        ..0x80 => char::from(byte),
        _ => CP437.chars().nth(usize::from(byte) - 0x80).expect("128 letters"),
    };
    bytes.iter().map(letter).collect()
}

/// Whether a directory can show it: no path separator, no NUL, not one of the two dots.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

/// Date and time of the disk, two seconds a step, with `hundredths` (0 to 199) on top. They are local times of a zone
/// that FAT does not say: taken as UTC. `quarters` is exFAT's distance from UTC in quarters of an hour. What is no
/// date (all zeros: not kept) becomes 1970.
pub fn timestamp(date: u16, time: u16, hundredths: u8, quarters: i64) -> Timestamp {
    let (year, month, day) = (1980 + i64::from(date >> 9), i64::from(date >> 5 & 15), i64::from(date & 31));
    let (hour, minute, second) = (i64::from(time >> 11), i64::from(time >> 5 & 63), i64::from(time & 31) * 2);
    if !(1..=12).contains(&month) || day == 0 || hour > 23 || minute > 59 || second > 58 {
        return Timestamp::default();
    }
    let hundredths = i64::from(if hundredths < 200 { hundredths } else { 0 });
    let seconds = days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second + hundredths / 100;
    let nanoseconds = (hundredths % 100) as u32 * 10_000_000;
    Timestamp { seconds: seconds - quarters * 900, nanoseconds }
}

/// From 1970 to that day, which is after 1900.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the day of February 29 is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_page_437_has_128_letters() {
        assert_eq!(CP437.chars().count(), 128);
        assert_eq!(oem(&[b'A', 0x80, 0x9A, 0xE1, 0xFF]), "AÇÜß\u{a0}");
    }

    #[test]
    fn dates_are_days() {
        let date = |year: u16, month: u16, day: u16| (year - 1980) << 9 | month << 5 | day;
        assert_eq!(timestamp(date(1980, 1, 1), 0, 0, 0).seconds, 315_532_800);
        assert_eq!(timestamp(date(2000, 2, 29), 0, 0, 0).seconds, 951_782_400);
        let last = timestamp(date(2107, 12, 31), 23 << 11 | 59 << 5 | 29, 199, 0);
        assert_eq!(last, Timestamp { seconds: 4_354_819_199, nanoseconds: 990_000_000 });
        assert_eq!(timestamp(date(1980, 1, 1), 0, 0, 4).seconds, 315_532_800 - 3600);
        for (day, time) in [(0, 0), (date(1980, 13, 1), 0), (date(1980, 1, 0), 0), (date(1980, 1, 1), 24 << 11)] {
            assert_eq!(timestamp(day, time, 0, 0), Timestamp::default());
        }
    }
}
