//! How Lua calls the shell's functions: thin bindings that check arguments, ask the node and turn
//! what comes back into tables. What there is to call stands in [`bytes`](super::bytes),
//! [`network`](super::network), [`packets`](super::packets) and [`tasks`](super::tasks); names, help
//! and looks are in `lua/`.
//!
//! Each answers `true` and its results, or `false` and a message; the prelude makes the message
//! an error at the caller's line.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{FromLuaMulti, IntoLua, IntoLuaMulti, Lua, MultiValue, Table, Value as LuaValue};

use crate::message::Contact;
use crate::net::{Handle, Losses};

use super::arguments::{Arguments, Complaint};
use super::background::Background;
use super::interrupt::Guard;
use super::network::Tables;
use super::output::Output;

/// What the functions work with.
pub(crate) struct Context {
    /// The node, unless programs run without one.
    pub(crate) node: Option<Handle>,
    pub(crate) guard: Guard,
    pub(crate) output: Arc<Output>,
    pub(crate) background: Background,
    /// The tasks that `tap` began, and what they lose.
    pub(crate) taps: RefCell<Vec<(u64, Losses)>>,
    /// Metatables, filled by the prelude.
    pub(crate) shapes: Shapes,
}

impl Context {
    /// The node.
    ///
    /// # Panics
    /// If there is none; functions that need one are not added then.
    pub(crate) fn handle(&self) -> &Handle {
        self.node.as_ref().expect("functions that need a node are added only where one is")
    }

    /// Makes tables of what the node tells.
    pub(crate) fn tables<'a>(&'a self, lua: &'a Lua) -> Tables<'a> {
        let own = Contact { id: self.handle().id(), address: self.handle().local_addr() };
        Tables { lua, shapes: &self.shapes, own }
    }
}

/// Metatables that tables get in Rust, because they come inside of others.
pub(crate) struct Shapes {
    pub(crate) contact: Table,
    pub(crate) known: Table,
    pub(crate) trace: Table,
    pub(crate) packet: Table,
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
    /// No functions yet.
    pub(crate) fn new(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Functions> {
        Ok(Functions { lua: lua.clone(), context: context.clone(), table: lua.create_table()? })
    }

    /// The functions that were added.
    pub(crate) fn into_table(self) -> Table {
        self.table
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
