//! Where the cursor is in Lua that is being typed and need not be complete: behind which path of names and calls,
//! inside which call, at which argument.
//!
//! It reads tokens and pairs brackets, no more; if it does not understand something, nothing is completed.
//! `lua/complete.lua` looks up what the names mean.

use mlua::{IntoLua, Lua, Table, Value as LuaValue};

use super::lexemes::{Kind, Lexeme, lexemes};

/// A step on the way to a value: in `n:node(3).tree` a name, a field, a call and a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Name(String),
    /// Behind a dot or a colon.
    Field(String),
    /// In brackets, with what stands in them if that is one literal.
    Index(Option<String>),
    Call,
    /// A string, at the beginning.
    Text,
}

/// What stands before the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The steps to the table whose field is wanted; none for a name by itself.
    pub(crate) path: Vec<Step>,
    /// How much of the name, or of the text in quotes, is there.
    pub(crate) prefix: String,
    /// The quote before the prefix, if it is in a string.
    pub(crate) quote: Option<char>,
    /// The brackets around it, outermost first.
    around: Vec<OpenBrackets>,
}

/// Brackets that are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenBrackets {
    bracket: char,
    /// The steps to the value that is called or indexed with them.
    pub(crate) callee: Vec<Step>,
    /// The number of the argument, from 1 on.
    pub(crate) argument: usize,
    /// Whether nothing of this argument is there yet.
    pub(crate) is_blank: bool,
    /// Whether it is a table of named things.
    pub(crate) is_table: bool,
    /// The name before `=` of the item in which the cursor is.
    pub(crate) key: Option<String>,
    /// All such names.
    pub(crate) given: Vec<String>,
    /// What stands in brackets of an index.
    literal: Option<String>,
}

impl Cursor {
    /// Reads what stands before the cursor.
    pub(crate) fn at_end_of(text: &str) -> Cursor {
        let mut reader = PathReader::default();
        lexemes(text).for_each(|token| reader.take(token));
        reader.finish()
    }

    /// The call in which the cursor is.
    pub(crate) fn within(&self) -> Option<&OpenBrackets> {
        self.around.last().filter(|frame| frame.is_call())
    }

    /// The innermost call around the cursor, even from inside a table or an index.
    pub(crate) fn call_around(&self) -> Option<&OpenBrackets> {
        self.around.iter().rev().find(|frame| frame.is_call())
    }
}

impl OpenBrackets {
    fn is_call(&self) -> bool {
        self.bracket != '[' && !self.callee.is_empty()
    }
}

/// The steps of a text that is a path and nothing else.
pub(crate) fn steps(text: &str) -> Option<Vec<Step>> {
    let mut reader = PathReader::default();
    lexemes(text).for_each(|token| reader.take(token));
    let is_whole = reader.around.is_empty() && reader.separator.is_none() && !reader.is_broken;
    (is_whole && !reader.path.is_empty()).then_some(reader.path)
}

#[derive(Default)]
struct PathReader {
    path: Vec<Step>,
    /// The dot or colon behind the path.
    separator: Option<char>,
    around: Vec<OpenBrackets>,
    /// The last token, if the cursor may be inside of it.
    last: Option<Last>,
    /// Whether something other than a path was there.
    is_broken: bool,
    /// Whether `function` stands before: what follows is no call.
    defines: bool,
    /// Whether the argument around the token was blank before it.
    was_blank: bool,
}

enum Last {
    Word(String),
    Text(char, String),
    Comment,
}

impl PathReader {
    fn take(&mut self, token: Lexeme<'_>) {
        let Lexeme { kind, text, is_open } = token;
        self.last = None;
        if kind == Kind::Space || kind == Kind::Comment {
            self.last = is_open.then_some(Last::Comment);
            return;
        }
        if let Some(frame) = self.around.last_mut() {
            self.was_blank = frame.is_blank;
            // A table that begins an argument may be all of it.
            frame.is_blank &= text == "{";
            if text != "]" {
                frame.literal = None;
            }
        }
        match kind {
            Kind::Name => self.name(text),
            Kind::Number => {
                self.clear();
                self.note_literal(text);
                self.last = Some(Last::Word(text.to_owned()));
            }
            Kind::Text => self.text(text, is_open),
            Kind::Keyword => {
                self.clear();
                self.defines = text == "function";
                self.last = Some(Last::Word(text.to_owned()));
            }
            Kind::Space | Kind::Comment => {}
            Kind::Other => self.symbol(text),
        }
    }

    fn name(&mut self, text: &str) {
        let is_field = self.separator.take().is_some();
        if !is_field && !self.path.is_empty() {
            self.clear();
        }
        let name = text.to_owned();
        self.path.push(if is_field { Step::Field(name) } else { Step::Name(name) });
        self.last = Some(Last::Word(text.to_owned()));
    }

    fn text(&mut self, text: &str, is_open: bool) {
        let quote = text.chars().next().unwrap_or('"');
        let content = text.trim_start_matches(quote);
        if is_open {
            // Still being typed; it may be the only argument of a call without brackets.
            if !self.path.is_empty() && self.separator.is_none() {
                self.open(quote);
            }
            let content = text.get(quote.len_utf8()..).unwrap_or_default();
            self.last = Some(Last::Text(quote, content.to_owned()));
        } else if !self.path.is_empty() && self.separator.is_none() {
            self.path.push(Step::Call);
        } else {
            self.clear();
            self.path.push(Step::Text);
            self.note_literal(content.trim_end_matches(quote));
        }
    }

    /// Notes a literal that comes first in the brackets of an index.
    fn note_literal(&mut self, text: &str) {
        let was_blank = self.was_blank;
        let indexed = |frame: &&mut OpenBrackets| frame.bracket == '[' && was_blank;
        if let Some(frame) = self.around.last_mut().filter(indexed) {
            frame.literal = Some(text.to_owned());
        }
    }

    fn symbol(&mut self, text: &str) {
        match text {
            "." | ":" if !self.path.is_empty() && self.separator.is_none() => {
                self.separator = text.chars().next();
            }
            "(" | "{" => self.open(if text == "(" { '(' } else { '{' }),
            "[" => self.open('['),
            ")" | "}" | "]" => self.close(),
            "," | ";" => {
                self.clear();
                if let Some(frame) = self.around.last_mut() {
                    frame.argument += 1;
                    frame.is_blank = true;
                    frame.key = None;
                }
            }
            "=" => {
                let key = match (&self.path[..], self.separator) {
                    ([Step::Name(name)], None) => Some(name.clone()),
                    _ => None,
                };
                self.clear();
                if let Some(frame) = self.around.last_mut() {
                    frame.given.extend(key.clone());
                    frame.key = key;
                    frame.is_blank = true;
                }
            }
            _ => self.clear(),
        }
    }

    fn open(&mut self, bracket: char) {
        let path = std::mem::take(&mut self.path);
        let mut callee = if self.separator.take().is_some() { Vec::new() } else { path };
        if std::mem::take(&mut self.defines) {
            callee.clear();
        }
        let mut argument = 1;
        if bracket == '{' && callee.is_empty() {
            // A table that is the whole argument is like one without brackets around it.
            if let Some(outer) =
                self.around.last().filter(|outer| outer.bracket == '(' && outer.is_blank)
            {
                (callee, argument) = (outer.callee.clone(), outer.argument);
            }
        }
        let is_table = bracket == '{';
        let frame = OpenBrackets {
            bracket,
            callee,
            argument,
            is_blank: true,
            is_table,
            ..OpenBrackets::default()
        };
        if let Some(outer) = self.around.last_mut() {
            outer.is_blank = false;
        }
        self.around.push(frame);
    }

    fn close(&mut self) {
        let inner = std::mem::take(&mut self.path);
        self.clear();
        let Some(frame) = self.around.pop() else { return };
        // A table that is an argument is no call of its own.
        let is_own = self.around.last().is_none_or(|outer| {
            !(frame.is_table && outer.bracket == '(' && outer.callee == frame.callee)
        });
        match frame.bracket {
            _ if frame.callee.is_empty() && frame.bracket == '(' => self.path = inner,
            _ if frame.callee.is_empty() || !is_own => {}
            bracket => {
                self.path = frame.callee;
                self.path.push(if bracket == '[' {
                    Step::Index(frame.literal)
                } else {
                    Step::Call
                });
            }
        }
        self.is_broken |= self.path.is_empty();
    }

    fn clear(&mut self) {
        self.is_broken |= self.around.is_empty();
        self.path.clear();
        self.separator = None;
    }

    fn finish(mut self) -> Cursor {
        match self.last.take() {
            Some(Last::Comment) => Cursor::default(),
            Some(Last::Text(quote, prefix)) => {
                Cursor { path: Vec::new(), prefix, quote: Some(quote), around: self.around }
            }
            Some(Last::Word(prefix)) => {
                self.path.pop();
                Cursor { path: self.path, prefix, quote: None, around: self.around }
            }
            None => {
                if self.separator.is_none() {
                    self.path.clear();
                }
                Cursor { path: self.path, prefix: String::new(), quote: None, around: self.around }
            }
        }
    }
}

impl IntoLua for Step {
    fn into_lua(self, lua: &Lua) -> mlua::Result<LuaValue> {
        let (what, name) = match self {
            Step::Name(name) => ("name", Some(name)),
            Step::Field(name) => ("field", Some(name)),
            Step::Index(key) => ("index", key),
            Step::Call => ("call", None),
            Step::Text => ("string", None),
        };
        let table = lua.create_sequence_from([what])?;
        table.raw_set(2, name)?;
        table.into_lua(lua)
    }
}

impl IntoLua for OpenBrackets {
    fn into_lua(self, lua: &Lua) -> mlua::Result<LuaValue> {
        let table = lua.create_table()?;
        table.raw_set("callee", self.callee)?;
        table.raw_set("argument", self.argument)?;
        table.raw_set("is_table", self.is_table)?;
        table.raw_set("key", self.key)?;
        table.raw_set("given", self.given)?;
        table.into_lua(lua)
    }
}

impl IntoLua for Cursor {
    fn into_lua(self, lua: &Lua) -> mlua::Result<LuaValue> {
        let table: Table = lua.create_table()?;
        table.raw_set("within", self.within().cloned())?;
        table.raw_set("path", self.path)?;
        table.raw_set("prefix", self.prefix)?;
        table.raw_set("quote", self.quote.map(String::from))?;
        table.into_lua(lua)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Step {
        Step::Name(text.into())
    }

    fn field(text: &str) -> Step {
        Step::Field(text.into())
    }

    #[test]
    fn a_name_is_found_with_the_path_to_it() {
        for (text, path, prefix) in [
            ("print(string.re", vec![name("string")], "re"),
            ("a.b:c", vec![name("a"), field("b")], "c"),
            ("x = fi", vec![], "fi"),
            ("x = fo", vec![], "fo"),
            ("for", vec![], "for"),
            ("é", vec![], "é"),
            ("", vec![], ""),
            ("x ", vec![], ""),
            ("f(x)", vec![], ""),
            ("f(x).", vec![name("f"), Step::Call], ""),
            ("f(')').", vec![name("f"), Step::Call], ""),
            ("n:node(3).tr", vec![name("n"), field("node"), Step::Call], "tr"),
            ("net{k = 5}:", vec![name("net"), Step::Call], ""),
            ("net({k = 5}):", vec![name("net"), Step::Call], ""),
            ("f 'x'.", vec![name("f"), Step::Call], ""),
            ("('x'):re", vec![Step::Text], "re"),
            ("_.a[1].", vec![name("_"), field("a"), Step::Index(Some("1".into()))], ""),
            ("a['b c'].", vec![name("a"), Step::Index(Some("b c".into()))], ""),
            ("a[i + 1].", vec![name("a"), Step::Index(None)], ""),
            ("1 .. x", vec![], "x"),
            ("x.y = z", vec![], "z"),
            ("-- a.b", vec![], ""),
        ] {
            let cursor = Cursor::at_end_of(text);
            assert_eq!((cursor.path, &*cursor.prefix), (path, prefix), "{text}");
        }
    }

    #[test]
    fn the_call_around_it_and_the_argument_are_told() {
        for (text, callee, argument, is_blank) in [
            ("f(", vec![name("f")], 1, true),
            ("f(a, ", vec![name("f")], 2, true),
            ("f(a, b", vec![name("f")], 2, false),
            ("f(g(1, 2), ", vec![name("f")], 2, true),
            ("f(g(1, ", vec![name("g")], 2, true),
            ("f(a, {1, 2, ", vec![name("f")], 2, true),
            ("n:kill(", vec![name("n"), field("kill")], 1, true),
            ("x = net{k = 1, ", vec![name("net")], 2, true),
            ("f(function(a, b) return g(a", vec![name("g")], 1, false),
            ("f(')', [[(]], ", vec![name("f")], 3, true),
        ] {
            let cursor = Cursor::at_end_of(text);
            let frame = cursor.call_around().unwrap_or_else(|| panic!("{text}"));
            assert_eq!((&frame.callee, frame.is_blank), (&callee, is_blank), "{text}");
            if !text.contains("{1") {
                assert_eq!(frame.argument, argument, "{text}");
            }
        }
        for text in ["", "f(x)", "function f(", "(", "{", "x = {1, ", "f(x) + "] {
            assert!(Cursor::at_end_of(text).call_around().is_none(), "{text}");
        }
    }

    #[test]
    fn settings_that_are_there_are_told() {
        let cursor = Cursor::at_end_of("net{nodes = 5, seed = 7, la");
        let frame = cursor.within().unwrap();
        assert!(frame.is_table && frame.key.is_none());
        assert_eq!(
            (&*cursor.prefix, &frame.given[..]),
            ("la", &["nodes".into(), "seed".into()][..])
        );
        let cursor = Cursor::at_end_of("net({addresses = \"pu");
        assert_eq!(cursor.within().unwrap().key.as_deref(), Some("addresses"));
        assert_eq!((cursor.quote, &*cursor.prefix), (Some('"'), "pu"));
        assert!(Cursor::at_end_of("net{latency = {").within().is_none());
    }

    #[test]
    fn a_path_alone_has_steps() {
        assert_eq!(
            steps("n:node(3).tree"),
            Some(vec![name("n"), field("node"), Step::Call, field("tree")])
        );
        for text in ["", "1", "a +", "a b +", "a.", "f(", "a = b"] {
            assert_eq!(steps(text), None, "{text}");
        }
    }
}
