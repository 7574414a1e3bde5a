//! What a launcher without a control channel says in the words of the command line.

use alloc::string::String;

use super::super::control::Boot;
use crate::boot::command_line;

/// NAME=VALUE are values that the slightfile left out; SLIGHT_ARGS has the module's arguments, quoted as for a shell,
/// SLIGHT_ENV_NAME a variable that the module sees as NAME.
pub fn from_command_line(line: &str) -> Boot {
    let mut boot = Boot { channel: true, ..Boot::default() };
    for word in command_line::words(line) {
        let Some((name, value)) = word.split_once('=') else { continue };
        if name == "SLIGHT_ARGS" {
            boot.args = command_line::words(value);
        } else if let Some(name) = name.strip_prefix("SLIGHT_ENV_") {
            boot.env.push((String::from(name), String::from(value)));
        }
        boot.values.insert(String::from(name), String::from(value));
    }
    boot
}

#[cfg(test)]
mod tests {
    use super::from_command_line;

    #[test]
    fn words_are_arguments_variables_and_values() {
        let line = r#"quiet REDIS_ADDRESS=redis://db:6379 SLIGHT_ENV_NAME="two words" SLIGHT_ARGS="one 'two three'""#;
        let boot = from_command_line(line);
        assert_eq!(boot.args, ["one", "two three"]);
        assert_eq!(boot.env, [("NAME".into(), "two words".into())]);
        assert_eq!(boot.values.get("REDIS_ADDRESS").map(|value| value.as_str()), Some("redis://db:6379"));
    }
}
