//! The functions that show what the node sends and receives: `packets`, `tap`, `capture`.
//!
//! What is read of a packet stands in [`reading`](super::reading); how it looks is Lua's.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value as LuaValue};

use crate::message::Contact;
use crate::net::{Captured, Direction, Existing, Losses, RING_PACKETS, Sight, Tap};

use super::arguments::{Arguments, Complaint};
use super::convert;
use super::escape::escape;
use super::functions::{Context, Functions, Trouble};
use super::reading::{Reader, Reading, epoch_seconds};
use super::tasks;

/// Packets that are shown unless more are asked for: a screen.
const SHOWN: usize = 20;

type Shared = Rc<Context>;

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add_async("packets", packets)?;
    functions.add_async("tap", tap)?;
    functions.add("untap", untap)?;
    functions.add_async("capture", capture)
}

async fn packets(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<LuaValue, Trouble> {
    let wanted = arguments.any();
    if matches!(wanted, LuaValue::Boolean(false)) {
        let forgotten = context.handle().forget_packets().await;
        forgotten.map_err(|error| arguments.complaint(error))?;
        return Ok(LuaValue::Nil);
    }
    let (filter, count) = Filter::with_count(&arguments, &wanted)?;
    let packets = context.handle().packets().await;
    let packets = packets.map_err(|error| arguments.complaint(error))?;
    let mut reader = Reader::default();
    let readings = packets.iter().map(|packet| reader.read(packet));
    let matching: Vec<_> = readings.filter(|reading| filter.takes(reading)).collect();
    let last = &matching[matching.len().saturating_sub(count)..];
    let list = lua.create_table_with_capacity(last.len(), 0)?;
    for (index, reading) in last.iter().enumerate() {
        list.raw_set(index + 1, packet_table(&context, &lua, reading)?)?;
    }
    Ok(LuaValue::Table(list))
}

async fn tap(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let program = arguments.callback("function")?;
    let wanted = arguments.any();
    let filter = Filter::of(&arguments, &wanted)?;
    let tap = context.handle().tap().await.map_err(|error| arguments.complaint(error))?;
    let losses = tap.losses();
    let running = tell(context.clone(), lua.clone(), program, filter, tap);
    let task = tasks::begin(&context, &lua, &arguments, None, running)?;
    let mut taps = context.taps.borrow_mut();
    taps.retain(|(number, _)| context.background.runs(*number));
    taps.push((task.raw_get("task")?, losses));
    Ok(task)
}

/// Calls the program for each event, one after the other.
async fn tell(
    context: Shared,
    lua: Lua,
    program: Function,
    filter: Filter,
    mut tap: Tap,
) -> mlua::Result<()> {
    let losses = tap.losses();
    let mut reader = Reader::default();
    let mut complained = false;
    while let Some(sight) = tap.next().await {
        let lost = losses.count();
        if lost > 0 && !complained {
            complained = true;
            let slow = "tap: the function is slower than the node; events are lost, and counted in";
            context.output.note(&format!("{slow} `lost`\n"));
        }
        let event = match &sight {
            Sight::Packet(packet) => {
                let reading = reader.read(packet);
                filter
                    .takes(&reading)
                    .then(|| packet_table(&context, &lua, &reading))
                    .transpose()?
            }
            Sight::ContactAdded(time, contact) | Sight::ContactLost(time, contact) => {
                let added = matches!(sight, Sight::ContactAdded(..));
                let kind = if added { "contact added" } else { "contact lost" };
                filter
                    .takes_news(kind, contact)
                    .then(|| news_table(&context, &lua, kind, epoch_seconds(*time), contact))
                    .transpose()?
            }
        };
        if let Some(event) = event {
            event.raw_set("lost", lost)?;
            program.call_async::<()>(event).await?;
        }
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

async fn capture(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let handle = context.handle();
    let file = arguments.any();
    let captured = match &file {
        LuaValue::Nil => {
            let captured = handle.captured().await;
            captured.map_err(|error| arguments.complaint(error))?
        }
        LuaValue::Boolean(false) => {
            let captured = handle.end_capture().await;
            captured.map_err(|error| arguments.complaint(error))?
        }
        LuaValue::String(name) => {
            let existing = existing(&mut arguments)?;
            let file = PathBuf::from(OsString::from_vec(name.as_bytes().to_vec()));
            let begun = handle.capture(&file, existing).await;
            begun.map_err(|error| arguments.complaint(capture_advice(&error)))?;
            let captured = handle.captured().await;
            captured.map_err(|error| arguments.complaint(error))?
        }
        other => {
            let expected = "the name of a file, false to end, or nothing";
            let advice = ". Try capture(\"node.pcap\")";
            return Err(arguments.wrong("file", expected, other, advice).into());
        }
    };
    Ok(captured_table(&lua, captured)?)
}

fn existing(arguments: &mut Arguments) -> Result<Existing, Complaint> {
    match arguments.any() {
        LuaValue::Nil => Ok(Existing::Keep),
        LuaValue::String(word) if word == "replace" => Ok(Existing::Replace),
        other => Err(arguments.wrong("existing", "\"replace\" or nothing", &other, "")),
    }
}

/// The error, and what to do about it.
fn capture_advice(error: &crate::net::CaptureError) -> String {
    use crate::net::CaptureError::{Exists, File, NoCapture, Running, Stopped, Write};
    let advice = match error {
        Exists(_) => "; choose another name, or capture(file, \"replace\")",
        Running(_) => "; capture(false) ends it",
        Stopped(_) | NoCapture(_) | File { .. } | Write { .. } => "",
    };
    format!("{error}{advice}")
}

fn captured_table(lua: &Lua, captured: Option<Captured>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("running", captured.as_ref().is_some_and(|captured| captured.running))?;
    if let Some(captured) = captured {
        table.raw_set("file", lua.create_string(captured.file.into_os_string().into_vec())?)?;
        table.raw_set("packets", captured.packets)?;
        table.raw_set("bytes", captured.bytes)?;
        table.raw_set("lost", captured.lost)?;
    }
    Ok(table)
}

fn packet_table(context: &Context, lua: &Lua, reading: &Reading<'_>) -> mlua::Result<Table> {
    let tables = context.tables(lua);
    let table = lua.create_table()?;
    table.raw_set("time", epoch_seconds(reading.packet.time))?;
    table.raw_set("direction", direction_name(reading.packet.direction))?;
    let peer = tables.address(reading.packet.peer)?;
    let sender = reading.from.filter(|_| reading.packet.direction == Direction::In);
    peer.raw_set("id", sender.map(|id| id.to_string()))?;
    table.raw_set("peer", peer)?;
    table.raw_set("kind", reading.kind.name())?;
    table.raw_set("size", reading.packet.bytes.len())?;
    table.raw_set("rpc", reading.rpc.as_ref().map(|rpc| lua.create_string(rpc)).transpose()?)?;
    table.raw_set("call", reading.call.map(|call| convert::hex(&call.0)))?;
    table.raw_set("ms", reading.took.map(|took| took.as_secs_f64() * 1e3))?;
    for (name, item) in [("args", reading.args), ("results", reading.results)] {
        table.raw_set(name, item.map(|item| convert::decode(lua, item)).transpose()?)?;
    }
    if let Some(error) = &reading.error {
        table.raw_set("error", error.as_str())?;
        table.raw_set("bytes", lua.create_string(&reading.packet.bytes)?)?;
    }
    table.set_metatable(Some(context.shapes.packet.clone()))?;
    Ok(table)
}

fn news_table(
    context: &Context,
    lua: &Lua,
    kind: &str,
    time: f64,
    contact: &Contact,
) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("time", time)?;
    table.raw_set("kind", kind)?;
    table.raw_set("peer", context.tables(lua).contact(contact)?)?;
    table.set_metatable(Some(context.shapes.packet.clone()))?;
    Ok(table)
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

/// Which packets are wanted; what is `None` takes any.
#[derive(Default)]
struct Filter {
    rpc: Option<Vec<u8>>,
    peer: Option<SocketAddr>,
    kind: Option<Vec<u8>>,
    direction: Option<Vec<u8>>,
    call: Option<Vec<u8>>,
}

impl Filter {
    /// `{rpc = …, peer = …}`, or nothing for all.
    fn of(arguments: &Arguments, wanted: &LuaValue) -> Result<Filter, Trouble> {
        let mut filter = Filter::default();
        let table = match wanted {
            LuaValue::Nil => return Ok(filter),
            LuaValue::Table(table) => table,
            other => return Err(arguments.wrong("filter", "a table", other, FILTERS).into()),
        };
        for pair in table.pairs::<LuaValue, LuaValue>() {
            let (key, value) = pair?;
            let name = match &key {
                LuaValue::String(name) => name.to_string_lossy(),
                other => return Err(arguments.wrong("filter", "names", other, FILTERS).into()),
            };
            let mut given =
                Arguments::new(arguments.function(), MultiValue::from_iter([value.clone()]));
            match &*name {
                "rpc" => filter.rpc = Some(given.string("rpc")?),
                "peer" => filter.peer = Some(given.peer("peer")?.address),
                "kind" => filter.kind = Some(given.string("kind")?),
                "direction" => filter.direction = Some(given.string("direction")?),
                "call" => filter.call = Some(given.string("call")?),
                "n" if arguments.function() == "packets" => {}
                other => {
                    let other = escape(other.as_bytes(), false);
                    let problem = format!("there is nothing to filter by '{other}'{FILTERS}");
                    return Err(arguments.complaint(problem).into());
                }
            }
        }
        Ok(filter)
    }

    /// As [`Filter::of`], with the number of packets, which may also stand alone.
    fn with_count(arguments: &Arguments, wanted: &LuaValue) -> Result<(Filter, usize), Trouble> {
        let (filter, count) = match wanted {
            LuaValue::Table(table) => (Filter::of(arguments, wanted)?, table.raw_get("n")?),
            LuaValue::Nil | LuaValue::Integer(_) | LuaValue::Number(_) => {
                (Filter::default(), wanted.clone())
            }
            other => {
                let expected = "how many, a table or false";
                return Err(arguments.wrong("filter", expected, other, FILTERS).into());
            }
        };
        let mut count = Arguments::new(arguments.function(), MultiValue::from_iter([count]));
        Ok((filter, count.count("n", SHOWN, RING_PACKETS)?))
    }

    fn takes(&self, reading: &Reading<'_>) -> bool {
        let call = reading.call.map(|call| convert::hex(&call.0));
        let direction = direction_name(reading.packet.direction);
        fits(&self.rpc, reading.rpc.as_deref())
            && fits(&self.kind, Some(reading.kind.name().as_bytes()))
            && fits(&self.direction, Some(direction.as_bytes()))
            && fits(&self.call, call.as_deref().map(str::as_bytes))
            && self.peer.is_none_or(|peer| peer == reading.packet.peer)
    }

    fn takes_news(&self, kind: &str, contact: &Contact) -> bool {
        fits(&self.rpc, None)
            && fits(&self.kind, Some(kind.as_bytes()))
            && fits(&self.direction, None)
            && fits(&self.call, None)
            && self.peer.is_none_or(|peer| peer == contact.address)
    }
}

/// What a filter may have.
const FILTERS: &str = ". Try packets{rpc = \"findnode\", peer = 8003}; \
                       there are rpc, peer, kind, direction, call and, for packets, n";

fn fits(wanted: &Option<Vec<u8>>, is: Option<&[u8]>) -> bool {
    wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
}
