//! Chunks of Lua: what a piece of source is, what its result is, and whether more of it is to come.

use mlua::chunk::ChunkMode;
use mlua::{Error, Function, Lua, LuaOptions, MultiValue, StdLib, Table};

use super::last;

/// The name of chunks that were typed.
const TYPED: &str = "=input";

/// The name of a chunk that is an argument of the command line.
const ARGUMENT: &str = "=-e";

/// A program and the name that its errors show.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The source; Lua takes any bytes.
    pub source: Vec<u8>,
    /// In Lua's form: `=name` is shown as it is, `@name` is a file.
    pub name: String,
}

impl Chunk {
    /// A chunk that was typed at the prompt.
    pub fn typed(source: impl AsRef<[u8]>) -> Chunk {
        Chunk { source: source.as_ref().into(), name: TYPED.to_owned() }
    }

    /// A chunk that is an argument of the command line.
    pub(crate) fn argument(source: &[u8]) -> Chunk {
        Chunk::program(source, ARGUMENT.to_owned())
    }

    /// Whether it was typed at the prompt.
    pub(crate) fn is_typed(&self) -> bool {
        self.name == TYPED
    }

    /// Whether an expression at its end is its result: in chunks that a person types, but not in programs,
    /// which `return` their results.
    fn has_last_expression(&self) -> bool {
        self.is_typed() || self.name == ARGUMENT
    }

    /// A whole program, as it stands in a file: see [`source_of`].
    pub fn program(source: &[u8], name: String) -> Chunk {
        Chunk { source: source_of(source), name }
    }

    /// Compiles the chunk as an expression, whose values it then returns; or as statements that end with an
    /// expression; or else as statements.
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
        if let Some(expression) = self.source.trim_ascii_start().strip_prefix(b"=") {
            return load_expression(&load, b"", expression).map(Compiled::Expression);
        }
        let expression = match load_expression(&load, b"", &self.source) {
            Ok(function) => return Ok(Compiled::Expression(function)),
            Err(error) => error,
        };
        if self.has_last_expression()
            && let Some(compiled) = load_with_last(&load, &self.source)
        {
            return compiled.map(Compiled::Expression);
        }
        match load(&self.source) {
            // `1 +` is no statement, but may become an expression yet.
            Err(_) if is_incomplete(&expression, &self.source) => Err(expression),
            compiled => compiled.map(Compiled::Statements),
        }
    }
}

/// Statements, none perhaps, and an expression whose values they return behind a first one: that keeps a single call
/// from being a tail call, which would lose its line.
fn load_expression(
    load: &impl Fn(&[u8]) -> mlua::Result<Function>,
    statements: &[u8],
    expression: &[u8],
) -> mlua::Result<Function> {
    load(&[statements, b" return nil, ", expression].concat())
}

/// The chunk as statements that end with an expression, if it can be read so. It is an error if the expression ends
/// too early.
fn load_with_last(
    load: &impl Fn(&[u8]) -> mlua::Result<Function>,
    source: &[u8],
) -> Option<mlua::Result<Function>> {
    for place in last::places(std::str::from_utf8(source).ok()?) {
        let (statements, expression) = source.split_at(place.at);
        let goes_on = |more: &str| load(&[statements, more.as_bytes()].concat()).is_ok();
        if load(statements).is_err() || place.never_behind.is_some_and(goes_on) {
            continue;
        }
        match load_expression(load, statements, expression) {
            Ok(function) => return Some(Ok(function)),
            // A statement that ends well is not one that was cut short: `f()`, and `x` before `=
            // 1`.
            Err(error) if is_incomplete(&error, source) => {
                return load(source).is_err().then_some(Err(error));
            }
            Err(_) => {}
        }
    }
    None
}

/// The source in a file, without a byte order mark, and with a first line that names an interpreter turned
/// into a comment. (Lua's own loader drops any first line with `#`; here it may be an expression.)
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
    /// The function, and whether its first value is none of the chunk's.
    pub(crate) fn into_parts(self) -> (Function, bool) {
        match self {
            Compiled::Statements(function) => (function, false),
            Compiled::Expression(function) => (function, true),
        }
    }

    /// Runs the chunk through `runner`, which calls its argument, and gives the values that it returns.
    pub(crate) async fn run(self, runner: &Function) -> mlua::Result<MultiValue> {
        let (function, has_one_more) = self.into_parts();
        let mut values: MultiValue = runner.call_async(function).await?;
        if has_one_more {
            values.pop_front();
        }
        Ok(values)
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

thread_local! {
    /// A Lua that only compiles, so that it answers even while programs are busy.
    static COMPILER: Lua = Lua::new_with(StdLib::NONE, LuaOptions::default()).expect("it asks for no library");
}

/// Whether the source ends too early; source that is plainly wrong does not.
pub(crate) fn wants_more(source: &str) -> bool {
    COMPILER.with(|lua| match Chunk::typed(source).compile(lua, &lua.globals()) {
        Ok(_) => false,
        Err(error) => is_incomplete(&error, source.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(lua: &Lua) -> Function {
        lua.load("local f = ... return f()").into_function().unwrap()
    }

    #[test]
    fn a_chunk_that_ends_too_early_wants_more() {
        for source in [
            "for i = 1, 3 do",
            "f(",
            "x = {",
            "= 1 +",
            "1 +",
            "--[[ a",
            "s = [[a",
            "if x",
            "'a\\",
            "x=5; x +",
            "f() g(",
        ] {
            assert!(wants_more(source), "{source}");
        }
        for source in [
            "", "f()", "x = 1", "= 1", "1 + 1", "x = = 1", "end", "'open", "return 1", "x=5; x",
            "f()\nx",
        ] {
            assert!(!wants_more(source), "{source}");
        }
    }

    #[tokio::test]
    async fn expressions_return_their_values() {
        let lua = Lua::new();
        for source in ["1 + 1", "= 1 + 1", "  =2", "return 2", "2 -- two"] {
            let compiled = Chunk::typed(source).compile(&lua, &lua.globals()).unwrap();
            let values = compiled.run(&runner(&lua)).await.unwrap();
            assert_eq!(values.into_vec(), [mlua::Value::Integer(2)], "{source}");
        }
        let statement = Chunk::typed("x = 5").compile(&lua, &lua.globals()).unwrap();
        assert!(statement.run(&runner(&lua)).await.unwrap().is_empty());
    }

    /// What a chunk returns, as text.
    async fn returned(chunk: Chunk) -> mlua::Result<String> {
        let lua = Lua::new();
        lua.load("function f(...) return ... end t = {x = 7, f = f} s = 'seven'").exec()?;
        let values = chunk.compile(&lua, &lua.globals())?.run(&runner(&lua)).await?;
        let texts: mlua::Result<Vec<String>> = values.iter().map(mlua::Value::to_string).collect();
        Ok(texts?.join(" "))
    }

    #[tokio::test]
    async fn an_expression_that_ends_a_line_is_its_result() {
        for (source, expected) in [
            ("x=5; x", "5"),
            ("x = 5 x", "5"),
            ("x = 5 x, x + 1 -- both", "5 6"),
            ("for i=1,3 do end f(1) + 1", "2"),
            ("local y = 2\n--[[ a\n comment ]] y * 3\n-- end", "6"),
            ("x = 1\nf(x)", "1"),
            ("f() f(3);", "3"),
            ("f() f(3)", "3"),
            ("local function g() return 4 end g()", "4"),
            ("x = 1; -x", "-1"),
            ("x = 5; x > 3", "true"),
            ("x = 5; x..s", "5seven"),
            ("x = 5; t.x", "7"),
            ("x = 1 ; (f)(2)", "2"),
            ("x = 5 (f)(2)", "2"),
            ("do end (f)(2)", "2"),
            ("x = 1; 'a'", "a"),
            ("x = 'a' x", "a"),
            ("x = 1; not x", "false"),
            ("x = f; #'abc'", "3"),
            ("::here:: s:upper()", "SEVEN"),
            ("local c <const> = 3 c", "3"),
            ("x = 1; ({7, 8})[2]", "8"),
            ("x = 1; function() end == nil", "false"),
            ("local x = 2 if x then x = 3 end x", "3"),
            ("repeat local x = 1 until x t.f(t.x)", "7"),
            // A statement that goes on over lines has no result.
            ("x = f\n(1)", ""),
            ("x = f\n{1}", ""),
            ("x = f\n'a'", ""),
            ("x = f(1)\n(f)", "attempt to call a number value"),
            ("x = 5\n-1", ""),
            ("x = s\n..s", ""),
            ("if t then f(1) end", ""),
            ("for i = 1, 2 do f(i) end", ""),
            ("t.x = f(2)", ""),
            ("local x = f(2)", ""),
            ("return f(2)", "2"),
            ("x = 1 return f(2)", "2"),
            ("do return 1 end", "1"),
            ("function g() return 1 end", ""),
            ("x = function() f() end", ""),
        ] {
            match returned(Chunk::typed(source)).await {
                Ok(text) => assert_eq!(text, expected, "{source}"),
                Err(error) => assert!(
                    error.to_string().contains(expected) && expected.len() > 9,
                    "{source}: {error}"
                ),
            }
        }
        // In a program that is an error, or shows nothing.
        let program = |source: &str| returned(Chunk::program(source.as_bytes(), "@a.lua".into()));
        assert!(program("x = 5; x").await.is_err());
        assert_eq!(program("f() f(3)").await.unwrap(), "");
        assert_eq!(returned(Chunk::argument(b"x = 5; x")).await.unwrap(), "5");
    }

    #[test]
    fn where_a_long_chunk_ends_is_found_soon() {
        let lua = Lua::new();
        let statements = "x = f(1)(2){3}'4' ".repeat(10_000);
        for end in ["x", "", "f(1)(2)(3)(4)(5)(6)(7)(8)(9)(1)(2)(3)(4)(5)(6)(7)(8)(9)(1)(2)(3)"] {
            let began = std::time::Instant::now();
            let chunk = Chunk::typed(format!("{statements}{end}"));
            assert!(chunk.compile(&lua, &lua.globals()).is_ok());
            assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
        }
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
            let values = compiled.unwrap().run(&runner(&lua)).await.unwrap();
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
