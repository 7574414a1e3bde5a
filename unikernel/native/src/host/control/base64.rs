//! Base64 with padding (RFC 4648, section 4).

use alloc::vec::Vec;

/// The bytes that a text stands for; None where it is not base64.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() % 4 != 0 {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|sign| **sign == b'=').count();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for signs in text[..text.len() - padding].chunks(4) {
        let mut word: u32 = 0;
        for sign in signs {
            word = word << 6 | value(*sign)?;
        }
        let missing = 4 - signs.len();
        let word = word << (6 * missing);
        bytes.extend_from_slice(&word.to_be_bytes()[1..4 - missing]);
    }
    Some(bytes)
}

fn value(sign: u8) -> Option<u32> {
    Some(match sign {
        b'A'..=b'Z' => u32::from(sign - b'A'),
        b'a'..=b'z' => u32::from(sign - b'a') + 26,
        b'0'..=b'9' => u32::from(sign - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::decode;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn the_vectors_of_the_rfc() {
        let vectors: [(&[u8], &[u8]); 7] = [
            (b"", b""),
            (b"Zg==", b"f"),
            (b"Zm8=", b"fo"),
            (b"Zm9v", b"foo"),
            (b"Zm9vYg==", b"foob"),
            (b"Zm9vYmE=", b"fooba"),
            (b"Zm9vYmFy", b"foobar"),
        ];
        for (text, bytes) in vectors {
            assert_eq!(decode(text).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["A", "AA", "AAA", "A===", "====", "AA=A", "A A=", "AA-_", "AA==AA==", "\u{e4}AA"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
