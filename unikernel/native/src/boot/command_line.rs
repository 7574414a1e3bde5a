//! The words of a command line.
use alloc::{string::String, vec::Vec};

/// Splits a command line as a shell does: at white space, and not where it's quoted. `'` quotes everything up to the next
/// one, `"` everything but a `\` before `"` or `\`, and `\` outside of quotes the character that follows. A quote that is
/// never closed ends with the line.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => word.get_or_insert_default().extend(characters.by_ref().take_while(|&quoted| quoted != '\'')),
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(quoted) = characters.next().filter(|&quoted| quoted != '"') {
                    let escaped = characters.next_if(|&next| quoted == '\\' && matches!(next, '"' | '\\'));
                    word.push(escaped.unwrap_or(quoted));
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn white_space_separates_words() {
        assert_eq!(words("  NAME=value \t ip=dhcp\n"), ["NAME=value", "ip=dhcp"]);
        assert!(words(" ").is_empty());
    }

    #[test]
    fn quotes_keep_white_space_and_may_stand_within_a_word() {
        assert_eq!(words(r#"SLIGHT_ARGS="one two" A='b  "c"'d"#), ["SLIGHT_ARGS=one two", r#"A=b  "c"d"#]);
    }

    #[test]
    fn a_quoted_nothing_is_a_word() {
        assert_eq!(words(r#"'' a """#), ["", "a", ""]);
    }

    #[test]
    fn backslashes_quote_as_in_a_shell() {
        assert_eq!(words(r#"a\ b "\"\\\n" '\'"#), ["a b", r#""\\n"#, r"\"]);
    }

    #[test]
    fn an_open_quote_ends_with_the_line() {
        assert_eq!(words("'a b"), ["a b"]);
        assert_eq!(words("\"a\\"), ["a\\"]);
    }
}
