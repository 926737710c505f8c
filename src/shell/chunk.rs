//! Chunks of Lua: what a piece of source is, and whether more of it is to come.

use mlua::chunk::ChunkMode;
use mlua::{Error, Function, Lua, MultiValue, Table};

/// The name of chunks that were typed.
const TYPED: &str = "=input";

/// A program and the name that its errors show.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The source; Lua takes any bytes.
    pub source: Vec<u8>,
    /// As Lua has it: `=name` is shown as it is, `@name` is a file.
    pub name: String,
}

impl Chunk {
    /// A chunk that was typed at the prompt.
    pub fn typed(source: &str) -> Chunk {
        Chunk { source: source.into(), name: TYPED.to_owned() }
    }

    /// Whether it was typed at the prompt.
    pub(crate) fn is_typed(&self) -> bool {
        self.name == TYPED
    }

    /// A whole program, as it stands in a file: see [`source_of`].
    pub fn program(source: &[u8], name: String) -> Chunk {
        Chunk { source: source_of(source), name }
    }

    /// Compiles the chunk as an expression, whose values it then returns, or else as statements.
    ///
    /// # Errors
    /// For a syntax error; it says so if the source merely ends too early.
    pub(crate) fn compile(&self, lua: &Lua, environment: &Table) -> mlua::Result<Compiled> {
        let load = |source: &[u8]| {
            lua.load(source)
                .set_name(&*self.name)
                .set_mode(ChunkMode::Text)
                .set_environment(environment.clone())
                .into_function()
        };
        // The leading value keeps a single call from being a tail call, which would lose its line.
        let load_expression = |source: &[u8]| load(&[b"return nil, ", source].concat());
        if let Some(expression) = self.source.trim_ascii_start().strip_prefix(b"=") {
            return load_expression(expression).map(Compiled::Expression);
        }
        let expression = match load_expression(&self.source) {
            Ok(function) => return Ok(Compiled::Expression(function)),
            Err(error) => error,
        };
        match load(&self.source) {
            // `1 +` is no statement, but may become an expression yet.
            Err(_) if is_incomplete(&expression, &self.source) => Err(expression),
            compiled => compiled.map(Compiled::Statements),
        }
    }
}

/// The source in a file without what only looks like source: a byte order mark, and a first line that names an
/// interpreter, which becomes a comment. (Lua's own loader drops any first line with `#`; here it may be an
/// expression.)
pub(crate) fn source_of(file: &[u8]) -> Vec<u8> {
    let source = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let comment: &[u8] = if source.starts_with(b"#!") { b"--" } else { b"" };
    [comment, source].concat()
}

/// A chunk that can run.
pub(crate) enum Compiled {
    Expression(Function),
    Statements(Function),
}

impl Compiled {
    /// Runs the chunk and gives the values that it returns.
    pub(crate) async fn run(self) -> mlua::Result<MultiValue> {
        match self {
            Compiled::Statements(function) => function.call_async(()).await,
            Compiled::Expression(function) => {
                let mut values: MultiValue = function.call_async(()).await?;
                values.pop_front();
                Ok(values)
            }
        }
    }
}

/// Whether more source may mend the error. No further line closes a quoted string, unless its own
/// ends with a backslash.
fn is_incomplete(error: &Error, source: &[u8]) -> bool {
    match error {
        Error::SyntaxError { message, incomplete_input: true } => {
            !message.contains("unfinished string") || source.ends_with(b"\\")
        }
        _ => false,
    }
}

/// Tells whether what was typed so far is a whole chunk. Compiles only, in a Lua of its own, so
/// that it answers whatever the programs are doing.
pub(crate) struct Completeness {
    lua: Lua,
    environment: Table,
}

impl Completeness {
    pub(crate) fn new() -> mlua::Result<Completeness> {
        let lua = Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::default())?;
        let environment = lua.create_table()?;
        Ok(Completeness { lua, environment })
    }

    /// Whether the source ends too early; one that is plainly wrong does not.
    pub(crate) fn wants_more(&self, source: &str) -> bool {
        match Chunk::typed(source).compile(&self.lua, &self.environment) {
            Ok(_) => false,
            Err(error) => is_incomplete(&error, source.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_ends_too_early_wants_more() {
        let completeness = Completeness::new().unwrap();
        for source in
            ["for i = 1, 3 do", "f(", "x = {", "= 1 +", "1 +", "--[[ a", "s = [[a", "if x", "'a\\"]
        {
            assert!(completeness.wants_more(source), "{source}");
        }
        for source in ["", "f()", "x = 1", "= 1", "1 + 1", "x = = 1", "end", "'open", "return 1"] {
            assert!(!completeness.wants_more(source), "{source}");
        }
    }

    #[tokio::test]
    async fn expressions_return_their_values() {
        let lua = Lua::new();
        for source in ["1 + 1", "= 1 + 1", "  =2", "return 2", "2 -- two"] {
            let compiled = Chunk::typed(source).compile(&lua, &lua.globals()).unwrap();
            let values = compiled.run().await.unwrap();
            assert_eq!(values.into_vec(), [mlua::Value::Integer(2)], "{source}");
        }
        let statement = Chunk::typed("x = 5").compile(&lua, &lua.globals()).unwrap();
        assert!(statement.run().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn sources_are_bytes() {
        let lua = Lua::new();
        for source in [
            &b"\xef\xbb\xbfreturn 2"[..],
            b"\xef\xbb\xbf#!/usr/bin/kademlua\nreturn 2",
            b"-- caf\xe9\nreturn 2",
            b"return #'\xe9\xff'",
            b"#'\xe9\xff'",
        ] {
            let compiled = Chunk::program(source, "@a.lua".into()).compile(&lua, &lua.globals());
            let values = compiled.unwrap().run().await.unwrap();
            assert_eq!(values.into_vec(), [mlua::Value::Integer(2)], "{source:?}");
        }
    }

    #[test]
    fn errors_tell_the_line() {
        let lua = Lua::new();
        let chunk = Chunk::program(b"#!/usr/bin/kademlua\nx =\n= 1", "@a.lua".into());
        let Err(error) = chunk.compile(&lua, &lua.globals()) else { panic!("it compiles") };
        let error = error.to_string();
        assert!(error.contains("a.lua:3:"), "{error}");
    }

    #[test]
    fn bytecode_is_not_taken() {
        let lua = Lua::new();
        let bytecode: mlua::LuaString =
            lua.load("return string.dump(function() end)").eval().unwrap();
        let chunk = Chunk::program(&bytecode.as_bytes(), "=input".into());
        assert!(chunk.compile(&lua, &lua.globals()).is_err());
    }
}
