//! Configuration files: a Lua program that sets `port`, `id`, `bind`, `bootstrap`, `control` and any
//! constant of the node by name.
//!
//! It runs in a Lua of its own without `os`, `io` and `require`, and for a bounded time, so that
//! any file may be tried. Setting something that nobody reads is an error: most likely a name was
//! mistyped.

use std::cell::Cell;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use mlua::chunk::ChunkMode;
use mlua::{HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};

use super::node::parse_ip;
use crate::config::{self, Config, Setting};
use crate::id::Id;
use crate::net::Endpoint;
use crate::shell::{describe, did_you_mean, endpoint_of_value, error_message, id_of, source_of};

/// Instructions that a configuration may take: a second of them, thousands of times what one needs.
const INSTRUCTIONS_MAX: u32 = 50_000_000;

/// How often the count of instructions is checked.
const LOOK_EVERY: u32 = 10_000;

/// Memory that a configuration may take.
const MEMORY_MAX: usize = 16 << 20;

/// Advice for settings that have no effect.
const HOW_TO_SET: &str = "settings are global variables, so write\nport = 8001\nk = 20";

/// The functions of Lua that a configuration sees, besides `math`, `string`, `table` and `utf8`.
const BASIC: [&str; 16] = [
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "tonumber",
    "tostring",
    "type",
    "_VERSION",
];

/// The settings in a configuration file; those that it does not set are `None` or the default.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) port: Option<u16>,
    pub(crate) id: Option<Id>,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) bootstrap: Option<Vec<Endpoint>>,
    /// Whether other processes of the user may attach to the node.
    pub(crate) control: bool,
    pub(crate) constants: Config,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            port: None,
            id: None,
            bind: None,
            bootstrap: None,
            control: true,
            constants: Config::default(),
        }
    }
}

impl Configuration {
    /// Runs the program in a file.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Configuration> {
        let name = file.display().to_string();
        let source = std::fs::read(file).with_context(|| format!("configuration {name}"))?;
        Configuration::parse(&source_of(&source), &name)
    }

    fn parse(source: &[u8], name: &str) -> anyhow::Result<Configuration> {
        let run = || -> mlua::Result<(Lua, Table, Table, Value)> {
            let lua = bounded_lua()?;
            let (before, environment) = (environment(&lua)?, environment(&lua)?);
            let chunk = lua.load(source).set_name(format!("@{name}")).set_mode(ChunkMode::Text);
            let returned: Value = chunk.set_environment(environment.clone()).call(())?;
            Ok((lua, before, environment, returned))
        };
        let (_lua, before, environment, returned) =
            run().map_err(|error| anyhow!("configuration {}", with_place(name, &error)))?;
        Configuration::of(&before, &environment, &returned)
            .with_context(|| format!("configuration {name}"))
    }

    /// What the program set.
    fn of(before: &Table, environment: &Table, returned: &Value) -> anyhow::Result<Configuration> {
        if !returned.is_nil() {
            bail!("it returns {}, which nobody reads; {HOW_TO_SET}", describe(returned));
        }
        let (mut configuration, mut is_empty) = (Configuration::default(), true);
        for pair in environment.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|error| anyhow!("{error}"))?;
            let name = match &key {
                Value::String(name) => name.to_string_lossy(),
                other => bail!("settings have names, got {}", describe(other)),
            };
            if before.raw_get::<Value>(&*name).is_ok_and(|value| value.is_nil()) {
                configuration.set(&name, &value)?;
                is_empty = false;
            }
        }
        if is_empty {
            bail!("it sets nothing; {HOW_TO_SET}");
        }
        configuration.constants.check()?;
        Ok(configuration)
    }

    fn set(&mut self, name: &str, value: &Value) -> anyhow::Result<()> {
        match name {
            "port" => self.port = Some(setting(name, "a port from 0 to 65535", value, port)?),
            "id" => {
                let expected = "a 20-byte string or 40 hex digits";
                self.id = Some(setting(name, expected, value, id_of)?);
            }
            "bind" => self.bind = Some(setting(name, "an address as a string", value, ip)?),
            "bootstrap" => {
                let expected = "a list of \"host:port\" or {address = \"…\", port = …}";
                self.bootstrap = Some(setting(name, expected, value, endpoints)?);
            }
            "control" => self.control = setting(name, "true or false", value, Value::as_boolean)?,
            _ => self.set_constant(name, value)?,
        }
        Ok(())
    }

    fn set_constant(&mut self, name: &str, value: &Value) -> anyhow::Result<()> {
        if Setting::named(name).is_none() {
            let known = format!("port, id, bind, bootstrap, control, {}", config::names());
            let near = did_you_mean(name, known.split(", "));
            bail!("no setting is called '{name}'; there are {known}{near}");
        }
        let number = setting(name, "a number", value, number)?;
        Ok(self.constants.set(name, number)?)
    }
}

/// Errors of the program begin with their file and line; those of its bounds do not.
fn with_place(name: &str, error: &mlua::Error) -> String {
    if matches!(error, mlua::Error::MemoryError(_)) {
        return format!("{name}: it may use no more than {} MB of memory", MEMORY_MAX >> 20);
    }
    let message = error_message(error);
    if message.starts_with(name) { message } else { format!("{name}: {message}") }
}

fn setting<T>(
    name: &str,
    expected: &str,
    value: &Value,
    read: impl Fn(&Value) -> Option<T>,
) -> anyhow::Result<T> {
    read(value).ok_or_else(|| anyhow!("{name}: expected {expected}, got {}", describe(value)))
}

fn number(value: &Value) -> Option<f64> {
    match *value {
        Value::Integer(integer) => Some(integer as f64),
        Value::Number(number) => Some(number),
        _ => None,
    }
}

fn port(value: &Value) -> Option<u16> {
    let number = number(value).filter(|number| number.fract() == 0.0)?;
    (0.0..=65_535.0).contains(&number).then_some(number as u16)
}

fn ip(value: &Value) -> Option<IpAddr> {
    parse_ip(&value.as_string()?.to_str().ok()?).ok()
}

fn endpoints(value: &Value) -> Option<Vec<Endpoint>> {
    let list = value.as_table()?;
    let endpoint = |index| endpoint_of_value(&list.raw_get::<Value>(index).ok()?);
    (1..=list.raw_len()).map(endpoint).collect()
}

/// A Lua that ends by itself.
fn bounded_lua() -> mlua::Result<Lua> {
    let libraries = StdLib::MATH | StdLib::STRING | StdLib::TABLE | StdLib::UTF8;
    let lua = Lua::new_with(libraries, LuaOptions::default())?;
    lua.set_memory_limit(MEMORY_MAX)?;
    let left = Cell::new(INSTRUCTIONS_MAX / LOOK_EVERY);
    lua.set_hook(HookTriggers::new().every_nth_instruction(LOOK_EVERY), move |_, _| {
        // Once the bound is exceeded it stays exceeded: a `pcall` catches each error only to meet
        // the next.
        left.set(left.get().saturating_sub(1));
        if left.get() == 0 {
            return Err(mlua::Error::runtime("it takes too long"));
        }
        Ok(VmState::Continue)
    })?;
    Ok(lua)
}

fn environment(lua: &Lua) -> mlua::Result<Table> {
    let (globals, environment) = (lua.globals(), lua.create_table()?);
    for name in BASIC.into_iter().chain(["math", "string", "table", "utf8"]) {
        environment.raw_set(name, globals.raw_get::<Value>(name)?)?;
    }
    globals.raw_get::<Table>("string")?.raw_set("dump", Value::Nil)?;
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: impl AsRef<[u8]>) -> Result<Configuration, String> {
        Configuration::parse(&source_of(source.as_ref()), "test.lua")
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_program_sets_what_it_names() {
        let configuration = parse(
            "port = 8000 + 3\nid = ('ab'):rep(20)\nbind = '::1'\nk = 8 expire = 60\n\
             bootstrap = {'127.0.0.1:8001', {address = '::1', port = 8002}, 8003, 'localhost:8001',
             {address = 'example.org', port = 8004}}\n\
             control = false local helper = 5",
        )
        .unwrap();
        assert_eq!(configuration.port, Some(8003));
        assert_eq!(configuration.id, Some(Id::new([0xab; 20])));
        assert_eq!(configuration.bind, Some("::1".parse().unwrap()));
        assert!(!configuration.control);
        let bootstrap = [
            "127.0.0.1:8001",
            "[::1]:8002",
            "127.0.0.1:8003",
            "localhost:8001",
            "example.org:8004",
        ];
        assert_eq!(configuration.bootstrap, Some(bootstrap.map(|a| a.parse().unwrap()).to_vec()));
        assert_eq!((configuration.constants.k, configuration.constants.alpha), (8, 3));
        assert_eq!(configuration.constants.expire.as_secs(), 60);
    }

    #[test]
    fn what_nobody_reads_or_is_of_the_wrong_type_is_named() {
        for (source, message) in [
            ("prot = 1", "no setting is called 'prot'"),
            ("function k() end", "k: expected a number, got a function"),
            ("k = 21", "k: expected a whole number from 1 to 20, got 21"),
            ("port = '8001'", "port: expected a port from 0 to 65535, got a string of 4 bytes"),
            ("control = 1", "control: expected true or false, got 1"),
            ("port = 1.5", "port: expected a port from 0 to 65535, got 1.5"),
            ("bootstrap = {'nowhere'}", "bootstrap: expected a list"),
            ("id = 'x'", "id: expected a 20-byte string or 40 hex digits"),
            ("rpc_timeout_max = 0.1", "rpc_timeout_min is 0.25 and rpc_timeout_max is 0.1"),
            ("x =", "test.lua:1:"),
            ("\nerror('no')", "test.lua:2: no"),
            ("k = os.getenv('K')", "global 'os'"),
            ("require 'x'", "global 'require'"),
            ("io.open('x')", "global 'io'"),
            ("dofile('x')", "global 'dofile'"),
        ] {
            let error = parse(source).unwrap_err();
            assert!(error.contains(message) && error.contains("test.lua"), "{source}: {error}");
        }
    }

    #[test]
    fn what_has_no_effect_is_refused_with_what_to_write() {
        for source in ["return {port = 8045}", "return 1", "return false", "return function() end"]
        {
            let error = parse(source).unwrap_err();
            assert!(error.contains("it returns ") && error.contains("port = 8001"), "{error}");
        }
        for source in ["", "\n", "-- port = 1", "local port = 8045", "math.x = 1"] {
            let error = parse(source).unwrap_err();
            assert!(error.contains("it sets nothing") && error.contains("port = 8001"), "{error}");
        }
        assert_eq!(parse("port = 8045 return").unwrap().port, Some(8045));
        assert_eq!(parse("port = 8045 return nil").unwrap().port, Some(8045));
    }

    #[test]
    fn a_file_is_bytes_with_or_without_a_mark() {
        for source in [
            &b"\xef\xbb\xbfport = 8045"[..],
            b"#!/usr/bin/env lua\nport = 8045",
            b"\xef\xbb\xbf#!lua\nport = 8045",
            b"-- caf\xe9\nport = 8045",
        ] {
            assert_eq!(parse(source).unwrap().port, Some(8045));
        }
        assert!(parse(b"#!lua\nerror('no')").unwrap_err().contains("test.lua:2: no"));
        assert!(parse(b"caf\xe9 = 1").is_err());
    }

    #[test]
    fn the_bounds_are_named_with_the_file() {
        let error = parse("x = ('x'):rep(1e8)").unwrap_err();
        assert_eq!(error, "configuration test.lua: it may use no more than 16 MB of memory");
        let error = parse("while true do end").unwrap_err();
        assert_eq!(error, "configuration test.lua: it takes too long");
    }

    #[test]
    fn a_configuration_ends_by_itself() {
        for source in ["while true do end", "while true do pcall(error) end", "x = ('x'):rep(1e9)"]
        {
            assert!(parse(source).is_err(), "{source}");
        }
    }
}
