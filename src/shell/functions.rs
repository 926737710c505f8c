//! The shell's functions, as Lua calls them: thin bindings that check arguments, ask the node and
//! turn what comes back into tables. Names, help and looks are in `lua/`.
//!
//! Each answers `true` and its results, or `false` and a message; the prelude makes the message
//! an error at the caller's line.

use std::rc::Rc;
use std::sync::Arc;

use mlua::{FromLuaMulti, IntoLua, IntoLuaMulti, Lua, MultiValue, Table, Value as LuaValue};

use crate::id::Id;
use crate::net::Handle;

use super::arguments::{Arguments, Complaint};
use super::convert;
use super::interrupt::Guard;
use super::network;
use super::output::Output;
use super::tasks::{self, Tasks};

/// What the functions work with.
pub(crate) struct Context {
    pub(crate) handle: Handle,
    pub(crate) guard: Guard,
    pub(crate) output: Arc<Output>,
    pub(crate) tasks: Tasks,
    /// The metatables of contacts, filled by the prelude.
    pub(crate) shapes: Shapes,
}

/// Metatables that tables get in Rust, because they come inside of others.
pub(crate) struct Shapes {
    pub(crate) contact: Table,
    pub(crate) known: Table,
}

/// Why a function has no result.
pub(crate) enum Trouble {
    /// The user can mend it.
    Complaint(Complaint),
    /// Lua itself failed, for want of memory for example.
    Lua(mlua::Error),
}

impl From<Complaint> for Trouble {
    fn from(complaint: Complaint) -> Trouble {
        Trouble::Complaint(complaint)
    }
}

impl From<mlua::Error> for Trouble {
    fn from(error: mlua::Error) -> Trouble {
        Trouble::Lua(error)
    }
}

/// The functions under their names.
pub(crate) struct Functions {
    lua: Lua,
    context: Rc<Context>,
    table: Table,
}

impl Functions {
    /// All functions of the shell that need Rust.
    pub(crate) fn table(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
        let functions =
            Functions { lua: lua.clone(), context: context.clone(), table: lua.create_table()? };
        functions.add_bytes()?;
        network::add_to(&functions)?;
        tasks::add_to(&functions)?;
        Ok(functions.table)
    }

    /// Adds a function that answers at once.
    pub(crate) fn add<R: IntoLuaMulti>(
        &self,
        name: &'static str,
        body: impl Fn(&Context, &Lua, Arguments) -> Result<R, Trouble> + 'static,
    ) -> mlua::Result<()> {
        let context = self.context.clone();
        let function = self.lua.create_function(move |lua, values| {
            reply(lua, body(&context, lua, Arguments::new(name, values)))
        })?;
        self.table.set(name, function)
    }

    /// Adds a function that suspends the coroutine that calls it.
    pub(crate) fn add_async<R: IntoLuaMulti, Running>(
        &self,
        name: &'static str,
        body: impl Fn(Rc<Context>, Lua, Arguments) -> Running + 'static,
    ) -> mlua::Result<()>
    where
        Running: Future<Output = Result<R, Trouble>> + 'static,
    {
        let context = self.context.clone();
        let function = self.lua.create_async_function(move |lua, values: MultiValue| {
            let running = body(context.clone(), lua.clone(), Arguments::new(name, values));
            async move { reply(&lua, running.await) }
        })?;
        self.table.set(name, function)
    }

    fn add_bytes(&self) -> mlua::Result<()> {
        self.add("sha1", |_, lua, mut arguments| {
            Ok(lua.create_string(Id::of_name(arguments.string("text")?).as_bytes())?)
        })?;
        self.add("tohex", |_, _, mut arguments| Ok(convert::hex(&arguments.string("bytes")?)))?;
        self.add("fromhex", |_, lua, mut arguments| {
            let digits = arguments.string("digits")?;
            let bytes = convert::from_hex(&digits).ok_or_else(|| {
                arguments.complaint(
                    "digits: expected an even number of hex digits. Try fromhex(\"415a\")",
                )
            })?;
            Ok(lua.create_string(bytes)?)
        })?;
        self.add("xor", |_, lua, mut arguments| {
            let (a, b) = (arguments.id("a")?, arguments.id("b")?);
            Ok(lua.create_string(xor(a, b).as_bytes())?)
        })?;
        self.add("getbucketno", |_, _, mut arguments| {
            let (a, b) = (arguments.id("distance")?, arguments.optional_id("b")?);
            Ok(a.common_prefix(&b.unwrap_or(Id::new([0; Id::LEN]))) + 1)
        })
    }
}

fn xor(a: Id, b: Id) -> Id {
    let mut bytes = *a.as_bytes();
    bytes.iter_mut().zip(b.as_bytes()).for_each(|(byte, other)| *byte ^= other);
    Id::new(bytes)
}

fn reply<R: IntoLuaMulti>(lua: &Lua, result: Result<R, Trouble>) -> mlua::Result<MultiValue> {
    match result {
        Ok(values) => {
            let mut values = values.into_lua_multi(lua)?;
            values.push_front(LuaValue::Boolean(true));
            Ok(values)
        }
        Err(Trouble::Complaint(Complaint(message))) => (false, message).into_lua_multi(lua),
        Err(Trouble::Lua(error)) => Err(error),
    }
}

/// A function for the prelude itself, with plain arguments.
pub(crate) fn plain<A: FromLuaMulti, R: IntoLuaMulti>(
    lua: &Lua,
    body: impl Fn(&Lua, A) -> mlua::Result<R> + 'static,
) -> mlua::Result<LuaValue> {
    lua.create_function(body)?.into_lua(lua)
}

/// As [`plain`], for what can go wrong in a way that the user should read.
pub(crate) fn plain_checked<A: FromLuaMulti, R: IntoLuaMulti>(
    lua: &Lua,
    body: impl Fn(&Lua, A) -> Result<R, Trouble> + 'static,
) -> mlua::Result<LuaValue> {
    plain(lua, move |lua, arguments| reply(lua, body(lua, arguments)))
}
