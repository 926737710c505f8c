//! How Lua calls the shell's functions: thin bindings that check arguments, ask the node and turn
//! what comes back into tables. What there is to call stands in [`bytes`](super::bytes),
//! [`network`](super::network), [`packets`](super::packets) and [`tasks`](super::tasks); names, help
//! and looks are in `lua/`. A function that asks a node takes a [`Site`] first: the node to ask.
//!
//! Each answers `true` and its results, or `false` and a message; `lua/sandbox.lua` makes the message
//! an error at the caller's line.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mlua::{
    FromLuaMulti, Function, IntoLua, IntoLuaMulti, Lua, MultiValue, Table, Value as LuaValue,
};

use serde::Serialize;

use crate::net::Losses;

use super::arguments::{Arguments, Complaint, Usage};
use super::background::Background;
use super::convert::{self, NoJson};
use super::end::Way;
use super::engine::Format;
use super::host::{Host, Place, Site};
use super::interrupt::Guard;
use super::others::Others;
use super::output::ShellOutput;
use super::progress::Progress;
use super::tables::to_lua;

/// What the functions work with.
pub(crate) struct Context {
    /// The node, unless programs run without one.
    pub(crate) host: Option<Host>,
    /// Other nodes, in other processes.
    pub(crate) others: Others,
    pub(crate) guard: Guard,
    pub(crate) output: Arc<ShellOutput>,
    pub(crate) background: Background,
    /// The way out of the process.
    pub(crate) way: Way,
    /// Calls a function of a program; its errors come back in the form that the user reads, with the lines of the
    /// program that led to them.
    pub(crate) runner: OnceCell<Function>,
    /// Turns a network, a cluster or one of their nodes into plain tables; nil for any other table.
    pub(crate) data: OnceCell<Function>,
    /// How results are shown.
    pub(crate) format: Format,
    /// How far the program says that it is.
    pub(crate) progress: RefCell<Option<Progress>>,
    /// The tasks that `tap` began, and what they lose.
    pub(crate) taps: RefCell<Vec<(u64, Losses)>>,
    /// The metatables that tables get in Rust because they come inside of others, by the names of what
    /// they show. Filled by the prelude.
    pub(crate) shapes: Table,
}

impl Context {
    /// Writes to standard output. If its reader has left the program ends, as by Ctrl-C but without a word.
    pub(crate) fn print(&self, text: &str) -> std::io::Result<()> {
        let printed = self.output.print(text);
        if self.output.is_closed() {
            self.guard.end();
        }
        printed
    }

    /// A result as JSON, until Ctrl-C.
    pub(crate) fn json(&self, value: &LuaValue) -> Result<String, NoJson> {
        let data = |table: &Table| {
            table.metatable()?;
            // A network that cannot be asked is a table like any other.
            let made = self.data.get()?.call::<LuaValue>(table).ok()?;
            (!made.is_nil()).then_some(made)
        };
        convert::json(value, data, || self.guard.strikes())
    }

    /// See the field.
    pub(crate) fn runner(&self) -> &Function {
        self.runner.get().expect("it is set before any program runs")
    }

    /// The Lua value of a node's answer.
    pub(crate) fn to_lua<T: Serialize + ?Sized>(
        &self,
        lua: &Lua,
        data: &T,
    ) -> mlua::Result<LuaValue> {
        to_lua(lua, &self.shapes, data)
    }
}

/// The shapes of what comes inside of other tables.
pub(crate) const INNER_SHAPES: [&str; 4] = ["contact", "known", "trace", "packet"];

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
        example: &'static str,
        body: impl Fn(&Context, &Lua, Arguments) -> Result<R, Trouble> + 'static,
    ) -> mlua::Result<()> {
        let (context, usage) = (self.context.clone(), Usage::new(name, example));
        let function = self.lua.create_function(move |lua, values| {
            reply(lua, body(&context, lua, Arguments::new(usage, values)))
        })?;
        self.table.set(name, function)
    }

    /// Adds a function that suspends the coroutine that calls it.
    pub(crate) fn add_async<R: IntoLuaMulti, Running>(
        &self,
        name: &'static str,
        example: &'static str,
        body: impl Fn(Rc<Context>, Lua, Arguments) -> Running + 'static,
    ) -> mlua::Result<()>
    where
        Running: Future<Output = Result<R, Trouble>> + 'static,
    {
        let (context, usage) = (self.context.clone(), Usage::new(name, example));
        let function = self.lua.create_async_function(move |lua, values: MultiValue| {
            let running = body(context.clone(), lua.clone(), Arguments::new(usage, values));
            let waiting = context.background.waiting_for(usage.name);
            async move {
                let result = running.await;
                drop(waiting);
                reply(&lua, result)
            }
        })?;
        self.table.set(name, function)
    }

    /// Adds a function that asks a node. Lua hands it a [`Site`] before its arguments, or nothing for the
    /// shell's own node.
    pub(crate) fn add_at<R: IntoLuaMulti, Running>(
        &self,
        name: &'static str,
        example: &'static str,
        body: impl Fn(Host, Rc<Context>, Lua, Arguments) -> Running + 'static,
    ) -> mlua::Result<()>
    where
        Running: Future<Output = Result<R, Trouble>> + 'static,
    {
        let body = Rc::new(body);
        self.add_async(name, example, move |context, lua, mut arguments| {
            let (site, body) = (site_of(&context, &arguments.any()), body.clone());
            async move {
                let Site { place, owner } = site?;
                let arguments = arguments.owned_by(owner);
                let host = match place {
                    Place::Here(host) => host,
                    Place::Elsewhere(which) => {
                        let attached = context.others.attach(&which).await;
                        Host::Attached(attached.map_err(|problem| arguments.complaint(problem))?)
                    }
                };
                body(host, context, lua, arguments).await
            }
        })
    }
}

fn site_of(context: &Context, value: &LuaValue) -> Result<Site, Trouble> {
    if let Some(site) = value.as_userdata().and_then(|data| data.borrow::<Site>().ok()) {
        return Ok(site.clone());
    }
    let own = context.host.clone().map(|host| Site { place: Place::Here(host), owner: "" });
    own.ok_or_else(|| Complaint("there is no node here".to_owned()).into())
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

/// Like [`plain`], for functions that can fail in a way that the user should read.
pub(crate) fn plain_checked<A: FromLuaMulti, R: IntoLuaMulti>(
    lua: &Lua,
    body: impl Fn(&Lua, A) -> Result<R, Trouble> + 'static,
) -> mlua::Result<LuaValue> {
    plain(lua, move |lua, arguments| reply(lua, body(lua, arguments)))
}
