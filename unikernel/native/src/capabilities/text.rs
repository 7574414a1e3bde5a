//! Texts that a guest or a client chose, as messages and logs show them: on one line, short, and in characters that can
//! be seen. They are escaped as in Python, so that a guest reads the same message on a machine of either flavour.

use alloc::string::String;
use core::fmt::Write;

/// How many characters of a guest's text are shown.
pub const QUOTED: usize = 80;

/// A guest's text as messages show it: in quotes, and cut after [`QUOTED`] characters. It is what Python's `repr` makes
/// of it.
pub fn quote(text: &str) -> String {
    repr(&shortened(text, QUOTED))
}

/// A text in quotes, all of it, as Python's `repr` writes it.
pub fn repr(text: &str) -> String {
    let delimiter = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(delimiter);
    for character in text.chars() {
        if character == delimiter || character == '\\' {
            quoted.push('\\');
            quoted.push(character);
        } else {
            push_escaped(&mut quoted, character);
        }
    }
    quoted.push(delimiter);
    quoted
}

/// How many characters of an error's text are shown.
pub const ERROR: usize = 200;

/// A text as a slightfile has it, on one line and in characters that can be seen, up to `limit` characters.
pub fn toml(text: &str, limit: usize) -> String {
    let end = text.char_indices().nth(limit).map_or(text.len(), |(end, _)| end);
    let mut quoted = String::from('"');
    for character in text[..end].chars() {
        let code = u32::from(character);
        // Writing to a String can't fail.
        let _ = match character {
            '"' | '\\' => write!(quoted, "\\{character}"),
            _ if is_printable(character) => quoted.write_char(character),
            _ if code < 0x1_0000 => write!(quoted, "\\u{code:04X}"),
            _ => write!(quoted, "\\U{code:08X}"),
        };
    }
    quoted.push('"');
    if end < text.len() {
        quoted.push('…');
    }
    quoted
}

/// Text of a guest or a client as a line of a log may hold it: escaped, and cut after `limit` characters.
pub fn printable(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for character in shortened(text, limit).chars() {
        push_escaped(&mut line, character);
    }
    line
}

fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.into(),
        Some((end, _)) => {
            let mut cut = String::from(&text[..end]);
            cut.push('…');
            cut
        }
    }
}

fn push_escaped(text: &mut String, character: char) {
    let code = u32::from(character);
    // Writing to a String can't fail.
    let _ = match character {
        _ if is_printable(character) => text.write_char(character),
        '\t' => text.write_str("\\t"),
        '\n' => text.write_str("\\n"),
        '\r' => text.write_str("\\r"),
        _ if code < 0x100 => write!(text, "\\x{code:02x}"),
        _ if code < 0x1_0000 => write!(text, "\\u{code:04x}"),
        _ => write!(text, "\\U{code:08x}"),
    };
}

/// Whether a character can be seen, or is a space: it is none of Unicode's categories Other and Separator.
///
/// The tables are those of `str::escape_debug`, of the same categories as `str.isprintable` of Python. What one of the
/// two already knows, and the other one's version of Unicode doesn't, is escaped by the latter alone.
pub fn is_printable(character: char) -> bool {
    if matches!(character, '\'' | '"' | '\\') {
        return true;
    }
    // A combining mark is escaped at the beginning alone, so it is looked at behind a letter.
    let mut letter_before = [b'a'; 5];
    let length = character.encode_utf8(&mut letter_before[1..]).len();
    core::str::from_utf8(&letter_before[..=length]).is_ok_and(|pair| pair.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    // What is expected is what `repr` and `capabilities.http.access.printable` of Python 3.11 give.

    #[test]
    fn quoted_text_is_as_in_python() {
        for (text, expected) in [
            ("cats", "'cats'"),
            ("", "''"),
            ("it's", "\"it's\""),
            ("\"it's\"", "'\"it\\'s\"'"),
            ("back\\slash", "'back\\\\slash'"),
            ("a\nb\r\t\x1b[31m\0\x7f", "'a\\nb\\r\\t\\x1b[31m\\x00\\x7f'"),
            ("caf\u{e9} cafe\u{301} \u{301}", "'caf\u{e9} cafe\u{301} \u{301}'"),
            ("\u{a0}\u{ad}\u{2028}\u{200b}\u{e000}\u{feff}", "'\\xa0\\xad\\u2028\\u200b\\ue000\\ufeff'"),
            ("\u{1f980}\u{e0001}\u{10ffff}", "'\u{1f980}\\U000e0001\\U0010ffff'"),
        ] {
            assert_eq!(quote(text), expected);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "é".repeat(81);
        assert_eq!(quote(&text), alloc::format!("'{}…'", "é".repeat(80)));
        assert_eq!(quote(&"é".repeat(80)), alloc::format!("'{}'", "é".repeat(80)));
        assert_eq!(printable("abc", 2), "ab…");
    }

    #[test]
    fn a_line_of_a_log_keeps_quotes_and_backslashes() {
        assert_eq!(printable("/a'b\"c\\d\n\u{85}", 1000), "/a'b\"c\\d\\n\\x85");
    }
}
