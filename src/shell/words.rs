//! What may be typed at the prompt although it is not Lua: `?name` and `name?`.

use std::borrow::Cow;

/// The line as Lua.
pub(crate) fn as_lua(line: &str) -> Cow<'_, str> {
    let line = line.trim();
    let topic = line.strip_prefix('?').or_else(|| line.strip_suffix('?'));
    let Some(topic) = topic.map(|topic| topic.trim_matches(['?', ' '])) else {
        return line.into();
    };
    match topic {
        "" => "help()".into(),
        topic => format!("help({topic:?})").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_asks_for_help() {
        for line in ["?ping", "ping?", " ? ping ", "ping??"] {
            assert_eq!(as_lua(line), r#"help("ping")"#, "{line}");
        }
        assert_eq!(as_lua("?n:kill"), r#"help("n:kill")"#);
        assert_eq!(as_lua("?"), "help()");
        assert_eq!(as_lua("print('?')"), "print('?')");
    }
}
