//! The functions that show the packets of a node: `packets`, `tap`, `capture`.
//!
//! A [`Reading`](crate::control::Reading) has what is read from a packet; Lua decides how it looks.

use std::rc::Rc;

use mlua::{Function, Lua, Table, Value as LuaValue};
use serde::de::{DeserializeOwned, IntoDeserializer as _, value};

use crate::control::{Ask, Capture, Code, Filter, Look, Problem};
use crate::net::{Losses, RING_PACKETS};

use super::arguments::{Arguments, Complaint};
use super::escape::escape;
use super::functions::{Context, Functions, Trouble};
use super::host::{Host, Watching};
use super::tasks;

/// Packets that are shown unless more are asked for: a screen.
const SHOWN: usize = 20;

/// An example of a filter.
pub(crate) const FILTERED: &str = "{rpc = \"findnode\", peer = 8003}";

/// What a filter may have.
const FILTERS: &str = ". Try packets{rpc = \"findnode\", peer = 8003}; \
                       there are rpc, peer, kind, direction, call and, for packets, n";

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add_at("tap", "function(event) print(event) end", tap)?;
    functions.add_at("capture", "\"node.pcap\"", capture)
}

/// Adds what needs no node.
pub(crate) fn add_untap_to(functions: &Functions) -> mlua::Result<()> {
    functions.add("untap", "", untap)
}

/// What `packets` asks for.
pub(crate) fn wanted(arguments: &mut Arguments) -> Result<Ask, Complaint> {
    let wanted = arguments.any();
    if matches!(wanted, LuaValue::Boolean(false)) {
        return Ok(Ask::ForgetPackets {});
    }
    let (filter, n) = match &wanted {
        LuaValue::Table(table) => {
            (filter(arguments, &wanted)?, table.raw_get("n").unwrap_or(LuaValue::Nil))
        }
        LuaValue::Nil | LuaValue::Integer(_) | LuaValue::Number(_) => {
            (Filter::default(), wanted.clone())
        }
        other => {
            let expected = "how many, a table or false";
            return Err(arguments.wrong("filter", expected, other, FILTERS));
        }
    };
    let n = Some(arguments.inner(n).count("n", SHOWN, RING_PACKETS)?);
    Ok(Ask::Look(Look::Packets(Filter { n, ..filter })))
}

/// `{rpc = …, peer = …}`, or nothing for all.
fn filter(arguments: &Arguments, wanted: &LuaValue) -> Result<Filter, Complaint> {
    let mut filter = Filter::default();
    let table = match wanted {
        LuaValue::Nil => return Ok(filter),
        LuaValue::Table(table) => table,
        other => return Err(arguments.wrong("filter", "a table", other, FILTERS)),
    };
    for (key, value) in table.pairs::<LuaValue, LuaValue>().flatten() {
        let name = match &key {
            LuaValue::String(name) => name.to_string_lossy(),
            other => return Err(arguments.wrong("filter", "names", other, FILTERS)),
        };
        let mut given = arguments.inner(value);
        match &*name {
            "rpc" => filter.rpc = Some(given.string("rpc")?.into()),
            "peer" => filter.peer = Some(given.peer("peer")?),
            "kind" => filter.kind = Some(one_of(&mut given, "kind")?),
            "direction" => filter.direction = Some(one_of(&mut given, "direction")?),
            "call" => {
                let call = given.string("call")?;
                filter.call = Some(String::from_utf8_lossy(&call).into_owned());
            }
            "n" if arguments.usage().name == "packets" => {}
            other => {
                let other = escape(other.as_bytes(), false);
                let problem = format!("there is nothing to filter by '{other}'{FILTERS}");
                return Err(arguments.complaint(problem));
            }
        }
    }
    Ok(filter)
}

/// The value, of a type that serialises as text, that a text names.
fn one_of<T: DeserializeOwned>(given: &mut Arguments, name: &'static str) -> Result<T, Complaint> {
    let text = given.string(name)?;
    let text = String::from_utf8_lossy(&text);
    T::deserialize(text.as_ref().into_deserializer()).map_err(|error: value::Error| {
        given.complaint(format_args!("{name}: {}", escape(error.to_string().as_bytes(), false)))
    })
}

async fn tap(
    host: Host,
    context: Rc<Context>,
    lua: Lua,
    mut arguments: Arguments,
) -> Result<Table, Trouble> {
    let program = arguments.callback("function")?;
    let wanted = arguments.any();
    let filter = filter(&arguments, &wanted)?;
    let watching = host.watch(filter).await.map_err(|problem| arguments.complaint(problem))?;
    let losses = watching.losses();
    let running = tell(context.clone(), lua.clone(), program, watching);
    let task = tasks::begin(&context, &lua, &arguments, "packets", None, running)?;
    let mut taps = context.taps.borrow_mut();
    taps.retain(|(number, _)| context.background.runs(*number));
    taps.push((task.raw_get("task")?, losses));
    Ok(task)
}

/// Calls the program for each event, one after the other.
async fn tell(
    context: Rc<Context>,
    lua: Lua,
    program: Function,
    mut watching: Watching,
) -> mlua::Result<()> {
    let mut complained = false;
    while let Some(reading) = watching.next().await {
        if watching.losses().count() > 0 && !complained {
            complained = true;
            let slow = "tap: the function is slower than the node; events are lost, and counted in";
            context.output.complain(format_args!("{slow} `lost`"));
        }
        program.call_async::<()>(context.to_lua(&lua, &reading)?).await?;
    }
    Ok(())
}

fn untap(context: &Context, lua: &Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let wanted = arguments.any();
    let number = match &wanted {
        LuaValue::Nil => None,
        task => Some(tasks::number_of(task).ok_or_else(|| {
            arguments.wrong("task", "what tap returned, or nothing for all taps", task, "")
        })?),
    };
    let mut ended = (0, 0);
    context.taps.borrow_mut().retain(|(tap, losses): &(u64, Losses)| {
        if number.is_some_and(|number| number != *tap) {
            return true;
        }
        if context.background.end(*tap) {
            ended = (ended.0 + 1, ended.1 + losses.count());
        }
        false
    });
    let table = lua.create_table()?;
    table.raw_set("ended", ended.0)?;
    table.raw_set("lost", ended.1)?;
    Ok(table)
}

async fn capture(
    host: Host,
    context: Rc<Context>,
    lua: Lua,
    mut arguments: Arguments,
) -> Result<LuaValue, Trouble> {
    let file = arguments.any();
    let ask = match &file {
        LuaValue::Nil => Capture::Status {},
        LuaValue::Boolean(false) => Capture::End {},
        LuaValue::String(name) => {
            let replace = replace(&mut arguments)?;
            Capture::Begin { file: name.as_bytes()[..].into(), replace }
        }
        other => {
            let expected = "the name of a file, false to end, or nothing";
            let advice = arguments.advice();
            return Err(arguments.wrong("file", expected, other, &advice).into());
        }
    };
    let answer = host.ask(Ask::Capture(ask)).await;
    let answer = answer.map_err(|problem| arguments.complaint(with_advice(&problem)))?;
    Ok(context.to_lua(&lua, &answer)?)
}

fn replace(arguments: &mut Arguments) -> Result<bool, Complaint> {
    match arguments.any() {
        LuaValue::Nil => Ok(false),
        LuaValue::String(word) if word == "replace" => Ok(true),
        other => Err(arguments.wrong("existing", "\"replace\" or nothing", &other, "")),
    }
}

/// The problem, and what to do about it.
fn with_advice(problem: &Problem) -> String {
    let advice = match problem.code {
        Code::Exists => "; choose another name, or capture(file, \"replace\")",
        Code::Running => "; capture(false) ends it",
        _ => "",
    };
    format!("{problem}{advice}")
}
