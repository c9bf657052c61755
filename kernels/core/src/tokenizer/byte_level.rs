//! GPT-2's byte alphabet: each byte written as one printable character, so that any text is a string of known symbols.
//! Printable Latin-1 stands for itself; the other 68 bytes are U+0100 onwards, in ascending order.

/// The character of each byte.
pub(super) const CHARS: [char; 256] = chars();

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

const fn chars() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0x100_u32;
    let mut byte = 0;
    while byte < 256 {
        if stands_for_itself(byte as u8) {
            table[byte] = byte as u8 as char;
        } else if let Some(char) = char::from_u32(next) {
            table[byte] = char;
            next += 1;
        }
        byte += 1;
    }
    table
}

fn byte_of(char: char) -> Option<u8> {
    match u32::from(char) {
        code @ 0..=0xff => {
            let byte = code as u8;
            stands_for_itself(byte).then_some(byte)
        }
        code @ 0x100..=0x143 => CHARS.iter().position(|&c| u32::from(c) == code).map(|at| at as u8),
        _ => None,
    }
}

/// Appends the bytes a token stands for. A token that is not wholly in the byte alphabet stands for its own text.
pub(super) fn push_bytes(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for char in token.chars() {
        if let Some(byte) = byte_of(char) {
            bytes.push(byte);
        } else {
            bytes.truncate(start);
            bytes.extend_from_slice(token.as_bytes());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_own_character_and_comes_back() {
        for byte in 0..=255_u8 {
            assert_eq!(byte_of(CHARS[usize::from(byte)]), Some(byte));
        }
        assert_eq!(CHARS[usize::from(b' ')], 'Ġ');
        assert_eq!(CHARS[usize::from(b'\n')], 'Ċ');
        assert_eq!(CHARS[0xad], 'Ń');
    }

    #[test]
    fn a_token_outside_the_alphabet_is_its_own_text() {
        let mut bytes = b"x".to_vec();
        push_bytes("Ġa字", &mut bytes);
        assert_eq!(bytes, "xĠa字".as_bytes());
    }
}
