//! The functions that ask the network or look at a node: each puts one question to any node.

use mlua::{Lua, MultiValue, Value as LuaValue};

use crate::control::{Answer, Ask, Command, Look};
use crate::message::{RouteKind, StoreMode};

use super::arguments::{Arguments, Complaint};
use super::functions::{Context, Functions, Trouble};
use super::host::Host;
use super::packets;

/// The largest `maxnodes`: all holders of a value, if each of k = 20 kept copies in five places.
const MAX_NODES_MAX: usize = 100;

/// Values asked of one node: more than any node keeps under a key by default.
const MAX_ENTRIES_MAX: usize = 1_000;

/// What a call asks for.
type Read = fn(&mut Arguments) -> Result<Ask, Complaint>;

/// The functions that ask once, with correct arguments.
const ASKING: [(&str, &str, Read); 16] = [
    ("add", KEY_AND_VALUE, |arguments| store(arguments, StoreMode::Add)),
    ("put", KEY_AND_VALUE, |arguments| store(arguments, StoreMode::Replace)),
    ("findvalue", KEY, find_value),
    ("findnode", KEY, |arguments| Ok(Ask::Run(Command::FindNode { target: arguments.id("id")? }))),
    ("route", KEY, route),
    ("ping", "8001", |arguments| Ok(Ask::Run(Command::Ping { peer: arguments.peer("contact")? }))),
    ("getsocket", "8001", |arguments| {
        Ok(Ask::Run(Command::GetSocket { peer: arguments.peer("contact")? }))
    }),
    ("call", "8001, \"greet\"", call),
    ("node", "", |_| Ok(Ask::Look(Look::Node))),
    ("contacts", "", |_| Ok(Ask::Look(Look::Contacts))),
    ("routing", "", |_| Ok(Ask::Look(Look::Routing))),
    ("lookups", "", |_| Ok(Ask::Look(Look::Lookups))),
    ("estimate", "", |_| Ok(Ask::Look(Look::Estimate))),
    ("settings", "", |_| Ok(Ask::Look(Look::Settings))),
    ("xdp", "", |_| Ok(Ask::Look(Look::Xdp))),
    ("packets", packets::FILTERED, packets::wanted),
];

const KEY: &str = "sha1(\"key\")";
const KEY_AND_VALUE: &str = "sha1(\"key\"), \"value\"";

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    for (name, example, read) in ASKING {
        functions.add_at(name, example, move |host, context, lua, mut arguments| async move {
            let ask = read(&mut arguments)?;
            asked(&host, &context, &lua, &arguments, ask).await
        })?;
    }
    functions.add_at("bootstrap", "8001", |host, context, lua, mut arguments| async move {
        let mut addresses = Vec::new();
        for endpoint in arguments.endpoints("contact")? {
            let resolved = endpoint.resolve().await;
            let unknown =
                |error| format!("the host name of '{endpoint}' does not resolve: {error}");
            addresses.extend(resolved.map_err(|error| arguments.complaint(unknown(error)))?);
        }
        let ask = Ask::Run(Command::Bootstrap { addresses });
        asked(&host, &context, &lua, &arguments, ask).await
    })
}

/// Asks, and makes Lua values of the answer.
async fn asked(
    host: &Host,
    context: &Context,
    lua: &Lua,
    arguments: &Arguments,
    ask: Ask,
) -> Result<MultiValue, Trouble> {
    let answer = host.ask(ask).await.map_err(|problem| arguments.complaint(problem))?;
    Ok(values(context, lua, &answer)?)
}

/// The results of an RPC become separate values, any other answer one.
pub(crate) fn values(context: &Context, lua: &Lua, answer: &Answer) -> mlua::Result<MultiValue> {
    match answer {
        Answer::Returned(values) => values.iter().map(|value| context.to_lua(lua, value)).collect(),
        answer => Ok(MultiValue::from_iter([context.to_lua(lua, answer)?])),
    }
}

fn store(arguments: &mut Arguments, mode: StoreMode) -> Result<Ask, Complaint> {
    let (key, value) = (arguments.id("key")?, arguments.encodable("value")?);
    Ok(Ask::Run(Command::Store { key, value, mode }))
}

fn find_value(arguments: &mut Arguments) -> Result<Ask, Complaint> {
    let key = arguments.id("key")?;
    let max_nodes = arguments.count("maxnodes", 3, MAX_NODES_MAX)?;
    let max_entries = arguments.count_or_all("maxentries", 6, MAX_ENTRIES_MAX)?;
    Ok(Ask::Run(Command::FindValue { key, max_nodes, max_entries }))
}

/// A third argument, which `trace` adds, has the nodes on the way leave their marks.
fn route(arguments: &mut Arguments) -> Result<Ask, Complaint> {
    let key = arguments.id("key")?;
    let kind = match arguments.any() {
        LuaValue::Nil => RouteKind::FindValue,
        LuaValue::String(text) if text.as_bytes() == b"findvalue" => RouteKind::FindValue,
        LuaValue::String(text) if text.as_bytes() == b"locate" => RouteKind::Locate,
        other => return Err(arguments.wrong("kind", "\"findvalue\" or \"locate\"", &other, "")),
    };
    let trace = arguments.any().as_boolean().unwrap_or(false);
    Ok(Ask::Run(Command::Route { key, kind, trace }))
}

fn call(arguments: &mut Arguments) -> Result<Ask, Complaint> {
    let (peer, name) = (arguments.peer("contact")?, arguments.string("name")?.into());
    let args = arguments.encodable_rest()?;
    Ok(Ask::Run(Command::Call { peer, name, args }))
}
