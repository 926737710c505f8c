//! Coroutines beside the one that the user waits for: `spawn`, `after`, `every`, `rpc`; `tasks`, which
//! lists them, and `cancel`, which ends them. And the end of everything, `exit`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::{Function, IntoLua, Lua, MultiValue, Table, Value as LuaValue};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use crate::net::IncomingCall;

use super::arguments::{Arguments, Complaint};
use super::background::{TASKS_MAX, Task};
use super::convert;
use super::failure::message_of;
use super::functions::{Context, Functions, Trouble};
use super::host::{Host, IncomingCalls};
use super::interrupt::{ANSWER_MAX, Interrupted};
use super::progress::Progress;

/// Calls of one registered function at once; further ones fail, which tells peers to slow down.
const CALLS_MAX: usize = 64;

/// `every` runs no more often than this: its clock is no finer.
const PERIOD_MIN: Duration = Duration::from_millis(1);

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add_async("sleep", "1", |_, _, mut arguments| async move {
        let span = arguments.seconds("seconds")?;
        // Even a span of zero lets the others run.
        tokio::task::yield_now().await;
        sleep(span).await;
        Ok(())
    })?;
    functions.add_async(
        "spawn",
        "function() print(\"beside\") end",
        |context, lua, mut arguments| async move {
            let program = arguments.callback("function")?;
            let running = run(&context, program, arguments.rest());
            begin(&context, &lua, &arguments, "its turn", None, running)
        },
    )?;
    functions.add_async(
        "after",
        "1, function() print(\"late\") end",
        |context, lua, mut arguments| async move {
            let (span, program) = (arguments.seconds("seconds")?, arguments.callback("function")?);
            let run = run(&context, program, arguments.rest());
            begin(&context, &lua, &arguments, "its time", None, async move {
                sleep(span).await;
                run.await
            })
        },
    )?;
    functions.add_async(
        "every",
        "1, function() print(\"tick\") end",
        |context, lua, mut arguments| async move {
            let (period, program) =
                (arguments.seconds("seconds")?, arguments.callback("function")?);
            let running = repeat(&context, period.max(PERIOD_MIN), program, arguments.rest());
            begin(&context, &lua, &arguments, "its next time", None, running)
        },
    )?;
    functions.add("cancel", "", |context, _, mut arguments| {
        let task = arguments.any();
        let number = number_of(&task).ok_or_else(|| {
            arguments.wrong("task", "what spawn, after, every or rpc returned", &task, "")
        })?;
        Ok(context.background.end(number))
    })?;
    functions.add("progress", "1, 10", |context, _, mut arguments| {
        let (done, total) = (arguments.number("done")?, arguments.number("total")?);
        let mut progress = context.progress.borrow_mut();
        if done >= total {
            *progress = None;
            return Ok(());
        }
        let shown = progress.get_or_insert_with(|| Progress::begin("the program runs", total));
        shown.set_total(total);
        shown.set(done);
        Ok(())
    })?;
    functions.add("tasks", "", |context, lua, _| listed(context, lua))?;
    functions.add("exit", "1", |context, _, mut arguments| -> Result<(), Trouble> {
        let status = arguments.any();
        let number = match status {
            LuaValue::Nil => Some(0),
            LuaValue::Integer(number) => u8::try_from(number).ok(),
            LuaValue::Number(number)
                if (0.0..=255.0).contains(&number) && number.fract() == 0.0 =>
            {
                Some(number as u8)
            }
            _ => None,
        };
        let wrong = || arguments.wrong("status", "a whole number from 0 to 255", &status, "");
        let number = number.ok_or_else(wrong)?;
        context.way.now(number)
    })
}

/// The tasks that run.
fn listed(context: &Context, lua: &Lua) -> Result<Table, Trouble> {
    let list = lua.create_table()?;
    for task in context.background.list() {
        let table = lua.create_table()?;
        table.raw_set("task", task.number)?;
        table.raw_set("kind", task.kind)?;
        table.raw_set("seconds", task.began.elapsed().as_secs_f64())?;
        table.raw_set("waits_for", task.waits_for)?;
        list.raw_push(table)?;
    }
    Ok(list)
}

/// Adds what only a node can do.
pub(crate) fn add_rpc_to(functions: &Functions) -> mlua::Result<()> {
    let example = "\"greet\", function(from, name) return \"hello \" .. name end";
    functions.add_at("rpc", example, rpc)
}

fn run(
    context: &Context,
    program: Function,
    mut arguments: Vec<LuaValue>,
) -> impl Future<Output = mlua::Result<()>> + use<> {
    arguments.insert(0, LuaValue::Function(program));
    context.runner().call_async(MultiValue::from_iter(arguments))
}

fn repeat(
    context: &Rc<Context>,
    period: Duration,
    program: Function,
    arguments: Vec<LuaValue>,
) -> impl Future<Output = mlua::Result<()>> + use<> {
    let context = context.clone();
    async move {
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            run(&context, program.clone(), arguments.clone()).await?;
        }
    }
}

async fn rpc(
    host: Host,
    context: Rc<Context>,
    lua: Lua,
    mut arguments: Arguments,
) -> Result<LuaValue, Trouble> {
    let name = arguments.string("name")?;
    let takes_back = context.background.end_rpc(&name);
    // The former task is dropped, and with it the former offer, before the next begins.
    tokio::task::yield_now().await;
    let program = match arguments.any() {
        LuaValue::Nil => return Ok(LuaValue::Boolean(takes_back)),
        value => arguments.inner(value).callback("function")?,
    };
    let calls = host.offer(&name).await.map_err(|problem| arguments.complaint(problem))?;
    let running = answer_all(context.clone(), lua.clone(), program, calls);
    Ok(begin(&context, &lua, &arguments, "calls", Some(name), running)?.into_lua(&lua)?)
}

/// Begins a task and returns the table that stands for it; `idle` is what it waits for itself.
pub(crate) fn begin(
    context: &Rc<Context>,
    lua: &Lua,
    arguments: &Arguments,
    idle: &'static str,
    answers: Option<Vec<u8>>,
    running: impl Future<Output = mlua::Result<()>> + 'static,
) -> Result<Table, Trouble> {
    let Some(number) = context.background.next() else {
        return Err(arguments.complaint(format_args!("{TASKS_MAX} tasks run already")).into());
    };
    let kind = arguments.usage().name;
    let title = format!("task {number} ({kind})");
    let own = context.clone();
    let abort = spawn_local(async move {
        let running = own.background.within(number, running);
        if finished(&own, &title, own.guard.background(running).await).is_none() {
            own.background.count_failure();
        }
        own.background.forget(number);
    })
    .abort_handle();
    context.background.begin(number, Task::new(abort, kind, idle, answers));
    let table = lua.create_table()?;
    table.raw_set("task", number)?;
    table.raw_set("kind", kind)?;
    Ok(table)
}

/// The result of a task that has ended; if it has failed the user is told.
fn finished<T>(
    context: &Context,
    title: &str,
    outcome: Result<mlua::Result<T>, Interrupted>,
) -> Option<T> {
    let problem = match outcome {
        Ok(Ok(result)) => return Some(result),
        Ok(Err(error)) => message_of(&error),
        Err(Interrupted) => "interrupted".to_owned(),
    };
    context.output.complain(format_args!("{title}: {problem}"));
    None
}

/// Answers the calls of a registered function, several at a time.
async fn answer_all(
    context: Rc<Context>,
    lua: Lua,
    program: Function,
    mut calls: IncomingCalls,
) -> mlua::Result<()> {
    let mut answering = JoinSet::new();
    while let Some(call) = calls.recv().await {
        while answering.try_join_next().is_some() {}
        if answering.len() >= CALLS_MAX {
            call.fail();
            continue;
        }
        let called = Instant::now();
        answering.spawn_local(answer(context.clone(), lua.clone(), program.clone(), call, called));
    }
    Ok(())
}

async fn answer(
    context: Rc<Context>,
    lua: Lua,
    program: Function,
    call: IncomingCall,
    called: Instant,
) {
    let title = format!("rpc {}", String::from_utf8_lossy(&call.name));
    let running = async {
        let mut values = values_of(&context, &lua, &call)?;
        values.push_front(LuaValue::Function(program));
        let values = context.runner().call_async::<MultiValue>(values).await?;
        returned(&values).map_err(|complaint| mlua::Error::runtime(complaint.0))
    };
    let outcome = match context.guard.answer(called, running).await {
        Err(Interrupted) if called.elapsed() >= ANSWER_MAX => {
            let seconds = ANSWER_MAX.as_secs_f64();
            let late = format_args!("interrupted: no answer within {seconds} s");
            Ok(Err(mlua::Error::runtime(late)))
        }
        outcome => outcome,
    };
    match finished(&context, &title, outcome) {
        Some(values) => call.answer(values),
        None => call.fail(),
    }
}

/// Who calls, and the arguments.
fn values_of(context: &Context, lua: &Lua, call: &IncomingCall) -> mlua::Result<MultiValue> {
    let args = call.args.iter().map(|arg| context.to_lua(lua, arg));
    std::iter::once(context.to_lua(lua, &call.from)).chain(args).collect()
}

/// What a registered function returned, as values to send; `nil` alone is nothing.
fn returned(values: &MultiValue) -> Result<Vec<crate::bencode::Value>, Complaint> {
    if values.len() == 1 && values[0].is_nil() {
        return Ok(Vec::new());
    }
    let encode = |(index, value): (usize, &LuaValue)| {
        convert::encode(&format!("result {}", index + 1), value)
    };
    let encoded: Result<_, _> = values.iter().enumerate().map(encode).collect();
    encoded.map_err(|error| Complaint::new("rpc", error))
}

/// The number of a task, as a program has it.
pub(crate) fn number_of(task: &LuaValue) -> Option<u64> {
    match task {
        LuaValue::Integer(number) => u64::try_from(*number).ok(),
        LuaValue::Table(table) => table.raw_get("task").ok(),
        _ => None,
    }
}
