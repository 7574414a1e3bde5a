//! What a launcher without a control channel says in the words of the command line.

use alloc::format;
use alloc::string::String;

use super::super::control::{self, Boot, ControlError};
use crate::boot::command_line;

/// NAME=VALUE are values that the slightfile left out; SLIGHT_ARGS has the module's arguments, quoted as for a shell,
/// SLIGHT_ENV_NAME a variable that the module sees as NAME, SLIGHT_OPTIONS the limits, in JSON. Fails with a line that
/// says what can't be read.
pub fn from_command_line(line: &str) -> Result<Boot, String> {
    let mut boot = Boot { channel: true, ..Boot::default() };
    for word in command_line::words(line) {
        let Some((name, value)) = word.split_once('=') else { continue };
        if name == "SLIGHT_ARGS" {
            boot.args = command_line::words(value);
        } else if name == "SLIGHT_OPTIONS" {
            boot.options = control::options(value).map_err(|ControlError(reason)| {
                format!("SLIGHT_OPTIONS on the kernel's command line can't be read: {reason}; correct it")
            })?;
        } else if let Some(name) = name.strip_prefix("SLIGHT_ENV_") {
            boot.env.push((String::from(name), String::from(value)));
        }
        boot.values.insert(String::from(name), String::from(value));
    }
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::super::super::control::{AccessLog, Options};
    use super::from_command_line;
    use alloc::format;

    #[test]
    fn words_are_arguments_variables_and_values() {
        let line = r#"quiet REDIS_ADDRESS=redis://db:6379 SLIGHT_ENV_NAME="two words" SLIGHT_ARGS="one 'two three'""#;
        let boot = from_command_line(line).unwrap();
        assert_eq!(boot.args, ["one", "two three"]);
        assert_eq!(boot.env, [("NAME".into(), "two words".into())]);
        assert_eq!(boot.values.get("REDIS_ADDRESS").map(|value| value.as_str()), Some("redis://db:6379"));
    }

    #[test]
    fn limits_are_json() {
        let options = |line| from_command_line(line).map(|boot| boot.options);
        let limits = r#"SLIGHT_OPTIONS='{"max_body": 1000, "access_log": "json"}'"#;
        let expected = Options { max_body: Some(1000), access_log: Some(AccessLog::Json), ..Options::default() };
        assert_eq!(options(limits), Ok(expected));
        assert_eq!(options("quiet"), Ok(Options::default()));
    }

    #[test]
    fn limits_that_are_none_are_refused() {
        for (limits, reason) in [
            ("{", "it is not JSON"),
            ("1", "an object is none"),
            (r#"{"max_body":-1}"#, "a whole number is none"),
            (r#"{"max_bodies":1}"#, "there is a member too many"),
        ] {
            let line = format!("SLIGHT_OPTIONS='{limits}'");
            let expected = format!("SLIGHT_OPTIONS on the kernel's command line can't be read: {reason}; correct it");
            assert_eq!(from_command_line(&line), Err(expected));
        }
    }
}
