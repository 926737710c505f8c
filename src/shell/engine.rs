//! The thread on which Lua runs. Chunks and questions go in through a channel, one chunk at a
//! time; the coroutines of background tasks go on between and during them.

use std::cell::{OnceCell, RefCell};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;
use std::time::Duration;

use mlua::{
    AnyUserData, BorrowedBytes, Function, IntoLua, IntoLuaMulti, Lua, LuaOptions, LuaString,
    MultiValue, StdLib, Table, Value as LuaValue,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::config::SETTINGS;
use crate::serial::hex;

use super::arguments::{Arguments, Complaint, Usage};
use super::background::Background;
use super::chunk::Chunk;
use super::cursor::{self, Cursor, Step};
use super::end::Way;
use super::escape::escape_lines;
use super::failure::{
    ChunkError, MEMORY_MAX, built_in, is_out_of_memory, message_of, place, without_place,
};
use super::functions::{Context, Functions, INNER_SHAPES, Trouble, plain, plain_checked};
use super::host::{Host, Place, Site, Subject};
use super::interrupt::{Guard, Interrupt, Interrupted};
use super::kept::Kept;
use super::others::{self, Others};
use super::output::ShellOutput;
use super::simulation::SimulatedNode;
use super::suggest::did_you_mean;
use super::{
    arguments, bytes, cluster, convert, escape, failure, files, lessons, modules, network, outside,
    packets, process_kilobytes, results, rows, simulation, tasks, terminal,
};

/// Stack of the Lua thread: Lua allows 200 levels of calls through Rust and C.
const STACK_BYTES: usize = 8 << 20;

/// A text longer than this is not shown: escaped it grows, outside of the memory counted as Lua's.
const SHOWN_BYTES_MAX: usize = 16 << 20;

/// A question about names is dropped if Lua is too busy to answer it within this time, while somebody
/// waits for the next key.
const NAMES_WITHIN: Duration = Duration::from_millis(100);

/// The same for the arguments of a call, which nobody asked for.
const HINT_WITHIN: Duration = Duration::from_millis(20);

/// How programs are run and how their results are shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How results are shown.
    pub format: Format,
    /// A script and its arguments.
    pub script: Option<Script>,
    /// A folder with more lessons; without one, what `KADEMLUA_LESSONS` names.
    pub lessons: Option<PathBuf>,
}

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// Each as a line of JSON.
    Json,
    /// Rows as CSV.
    Csv,
}

impl Format {
    /// The format that the options of a command ask for.
    pub(crate) fn of(json: bool, csv: bool) -> Format {
        match (json, csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => Format::Text,
        }
    }
}

/// A script named on the command line.
#[derive(Clone, Debug)]
pub struct Script {
    /// The file as it was named.
    pub name: OsString,
    /// Its folder, the only one from which it can `require`.
    pub folder: PathBuf,
    /// Its arguments, any bytes.
    pub arguments: Vec<OsString>,
}

/// What may stand at the cursor.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The texts that can replace it, sorted.
    pub(crate) texts: Vec<String>,
    /// Whether it is the name of a file.
    pub(crate) wants_file: bool,
}

/// What a call takes.
#[derive(Clone, Debug)]
pub(crate) struct Hint {
    /// As help has them: `key, maxnodes=3`.
    pub(crate) arguments: String,
    /// The names in its table.
    pub(crate) settings: Vec<String>,
}

/// The way to the Lua thread.
#[derive(Clone)]
pub(crate) struct Engine {
    jobs: mpsc::UnboundedSender<Job>,
    interrupt: Arc<Interrupt>,
    results: Arc<AtomicU64>,
}

enum Job {
    Run { chunk: Chunk, done: oneshot::Sender<Result<(), ChunkError>> },
    Names { cursor: Cursor, done: blocking::Sender<Names> },
    Hint { callee: Vec<Step>, done: blocking::Sender<Option<Hint>> },
}

impl Engine {
    /// Starts the thread.
    pub(crate) fn start(
        node: Option<Subject>,
        output: Arc<ShellOutput>,
        options: Options,
        way: Way,
    ) -> io::Result<Engine> {
        let interrupt = Interrupt::new();
        let (jobs, queue) = mpsc::unbounded_channel();
        let (started, ready) = blocking::channel();
        let lua_interrupt = interrupt.clone();
        let results = Arc::new(AtomicU64::new(0));
        let count = results.clone();
        std::thread::Builder::new().name("kademlua-lua".into()).stack_size(STACK_BYTES).spawn(
            move || {
                let world =
                    || World::new(node.map(Host::from), output, options, lua_interrupt, count, way);
                run(world, queue, &started);
            },
        )?;
        ready.recv().map_err(io::Error::other)??;
        Ok(Engine { jobs, interrupt, results })
    }

    /// Ends what runs now.
    pub(crate) fn interrupt(&self) {
        self.interrupt.request();
    }

    /// Runs a chunk and shows its results.
    pub(crate) async fn run(&self, chunk: Chunk) -> Result<(), ChunkError> {
        let (done, result) = oneshot::channel();
        self.jobs.send(Job::Run { chunk, done }).map_err(|_| ChunkError::Stopped)?;
        result.await.unwrap_or(Err(ChunkError::Stopped))
    }

    /// What may stand at the cursor.
    pub(crate) fn names(&self, cursor: Cursor) -> Names {
        self.ask(NAMES_WITHIN, |done| Job::Names { cursor, done }).unwrap_or_default()
    }

    /// The number of the last result that was typed for: in a program it is called `_1`, `_2` and so on.
    pub(crate) fn last_result(&self) -> u64 {
        self.results.load(Ordering::SeqCst)
    }

    /// The arguments of the call that these steps lead to.
    pub(crate) fn hint(&self, callee: Vec<Step>) -> Option<Hint> {
        self.ask(HINT_WITHIN, |done| Job::Hint { callee, done }).flatten()
    }

    fn ask<T>(&self, longest: Duration, job: impl FnOnce(blocking::Sender<T>) -> Job) -> Option<T> {
        let (done, answer) = blocking::channel();
        self.jobs.send(job(done)).ok()?;
        answer.recv_timeout(longest).ok()
    }
}

/// The body of the thread.
fn run(
    world: impl FnOnce() -> mlua::Result<World>,
    mut queue: mpsc::UnboundedReceiver<Job>,
    started: &blocking::Sender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    let world = match world() {
        Ok(made) => made,
        Err(error) => return drop(started.send(Err(io::Error::other(error.to_string())))),
    };
    let _ = started.send(Ok(()));
    LocalSet::new().block_on(&runtime, async {
        while let Some(job) = queue.recv().await {
            world.take(job).await;
        }
    });
}

/// A Lua state with its environment.
struct World {
    lua: Lua,
    environment: Table,
    guard: Guard,
    output: Arc<ShellOutput>,
    context: Rc<Context>,
    show: Function,
    /// Decides what the values of a typed chunk mean: `help` alone is a call.
    meant: Function,
    /// What a lesson says after a chunk that was typed.
    after: Function,
    names: Function,
    kept: Kept,
    hint: Function,
}

impl World {
    fn new(
        host: Option<Host>,
        output: Arc<ShellOutput>,
        options: Options,
        interrupt: Arc<Interrupt>,
        results: Arc<AtomicU64>,
        way: Way,
    ) -> mlua::Result<World> {
        let lua = bare_lua()?;
        lua.set_memory_limit(MEMORY_MAX)?;
        let guard = Guard::install(&lua, interrupt)?;
        let background = Background::default();
        let shapes = lua.create_table()?;
        for name in INNER_SHAPES {
            shapes.set(name, lua.create_table()?)?;
        }
        let context = Context {
            host,
            others: Others::default(),
            guard: guard.clone(),
            output: output.clone(),
            background,
            way,
            runner: OnceCell::new(),
            data: OnceCell::new(),
            format: options.format,
            progress: RefCell::default(),
            taps: RefCell::default(),
            shapes,
        };
        let context = Rc::new(context);
        let made = prelude(&lua, &context, &options)?;
        context.runner.set(made.get("run")?).expect("it is set once");
        context.data.set(made.get("data")?).expect("it is set once");
        let environment: Table = made.get("env")?;
        if let Some(script) = &options.script {
            environment.set("arg", arg_table(&lua, script)?)?;
        }
        let (show, after) = (made.get("show")?, made.get("after")?);
        let meant = made.get("meant")?;
        let (names, hint) = (made.get("names")?, made.get("hint")?);
        let kept = Kept::new(environment.clone(), results);
        Ok(World {
            lua,
            environment,
            guard,
            output,
            context,
            show,
            meant,
            after,
            names,
            kept,
            hint,
        })
    }

    async fn take(&self, job: Job) {
        match job {
            Job::Run { chunk, done } => drop(done.send(self.run(&chunk).await)),
            // If the program broke its own tables, there is no answer.
            Job::Names { cursor, done } => {
                let asked = self.names.call_async(cursor);
                let names = tokio::time::timeout(NAMES_WITHIN, asked).await;
                let (texts, wants_file) = names.ok().and_then(Result::ok).unwrap_or_default();
                drop(done.send(Names { texts, wants_file }));
            }
            Job::Hint { callee, done } => {
                let told = self.hint.call::<(Option<String>, Option<Vec<String>>)>(callee);
                let (arguments, settings) = told.unwrap_or_default();
                let hint = |arguments| Hint { arguments, settings: settings.unwrap_or_default() };
                drop(done.send(arguments.map(hint)));
            }
        }
    }

    async fn run(&self, chunk: &Chunk) -> Result<(), ChunkError> {
        let outcome = self.guard.foreground(self.results(chunk)).await;
        drop(self.context.progress.take());
        match outcome {
            _ if self.output.is_closed() => Err(ChunkError::Unread),
            Ok(Ok(text)) => {
                let print =
                    if chunk.is_typed() { ShellOutput::print_result } else { ShellOutput::print };
                print(&self.output, &text).map_err(|error| match error.kind() {
                    io::ErrorKind::BrokenPipe => ChunkError::Unread,
                    _ => ChunkError::Failed(format!("cannot write to standard output: {error}")),
                })?;
                match self.context.background.failures() {
                    failures if failures > 0 && !chunk.is_typed() => {
                        Err(ChunkError::Tasks(failures))
                    }
                    _ => Ok(()),
                }
            }
            Ok(Err(error)) => {
                if is_out_of_memory(&error) {
                    let _ = self.kept.forget();
                }
                // The values that filled the memory may be garbage by now.
                let _ = self.lua.gc_collect();
                Err(ChunkError::Failed(message_of(&error) + &self.consolation(chunk)))
            }
            Err(Interrupted) => Err(ChunkError::Interrupted),
        }
    }

    /// Runs a chunk to its end. Returns its values as they are to be shown, with what a lesson says
    /// about them.
    async fn results(&self, chunk: &Chunk) -> mlua::Result<String> {
        let compiled = chunk.compile(&self.lua, &self.environment)?;
        let mut values = compiled.run(self.context.runner()).await?;
        if chunk.is_typed() {
            values = self.meant.call_async(values).await?;
        }
        if let Some(result) = values.front().filter(|_| chunk.is_typed()) {
            self.kept.keep(&self.lua, result)?;
        }
        match self.context.format {
            Format::Text => {}
            Format::Json => return json_lines(&values, &self.context),
            Format::Csv => return csv_tables(&values, &self.context),
        }
        let text: LuaString = self.show.call_async(values.clone()).await?;
        let mut text = text.to_string_lossy();
        if chunk.is_typed() {
            let mut judged = values;
            judged.push_front(LuaValue::Boolean(true));
            judged.push_front(LuaValue::String(self.lua.create_string(&chunk.source)?));
            let said: LuaString = self.after.call_async(judged).await?;
            append_line(&mut text, &escape_lines(&said.to_string_lossy()));
        }
        Ok(text)
    }

    /// What a lesson says after a chunk that failed.
    fn consolation(&self, chunk: &Chunk) -> String {
        let source = || self.lua.create_string(&chunk.source);
        let said = |source| self.after.call::<String>((source, false));
        let said = chunk.is_typed().then(|| source().and_then(said).ok()).flatten();
        said.filter(|said| !said.is_empty()).map_or_else(String::new, |said| format!("\n{said}"))
    }
}

fn append_line(text: &mut String, line: &str) {
    if !line.is_empty() {
        text.extend(["\n", line, "\n"]);
    }
}

/// A Lua state with the libraries from which the prelude picks the safe functions.
fn bare_lua() -> mlua::Result<Lua> {
    let libraries = StdLib::TABLE
        | StdLib::STRING
        | StdLib::UTF8
        | StdLib::MATH
        | StdLib::COROUTINE
        | StdLib::OS;
    // The defaults leave Lua's own `pcall` in place, inside which a program may wait.
    Lua::new_with(libraries, LuaOptions::default())
}

/// Runs the programs in `lua/` that make the environment.
fn prelude(lua: &Lua, context: &Rc<Context>, options: &Options) -> mlua::Result<Table> {
    let native = natives(lua, context, options)?;
    let load = |name, source| lua.load(source).set_name(built_in(name));
    let pretty: Table = load("pretty", include_str!("../../lua/pretty.lua")).call(&native)?;
    let draw = drawings(lua, &native, &pretty)?;
    let sandbox: Table =
        load("sandbox", include_str!("../../lua/sandbox.lua")).call((&native, &pretty))?;
    load("files", include_str!("../../lua/files.lua")).call::<()>((&native, &pretty, &sandbox))?;
    let functions: Table = load("functions", include_str!("../../lua/functions.lua"))
        .call((&native, &pretty, draw, &sandbox))?;
    let help: Table = load("help", include_str!("../../lua/help.lua")).call(&native)?;
    let methods: Table = load("methods", include_str!("../../lua/methods.lua")).call(&help)?;
    let manual: Table = load("manual", include_str!("../../lua/manual.lua"))
        .call((&native, &pretty, &help, methods))?;
    let networks: Table = load("networks", include_str!("../../lua/networks.lua"))
        .call((&native, &pretty, &sandbox, &functions, &manual))?;
    let complete = load("complete", include_str!("../../lua/complete.lua")).into_function()?;
    let lesson = load("lesson", include_str!("../../lua/lesson.lua")).into_function()?;
    load("prelude", include_str!("../../lua/prelude.lua"))
        .call((native, pretty, sandbox, functions, networks, help, manual, complete, lesson))
}

/// Runs the programs in `lua/draw/`.
fn drawings(lua: &Lua, native: &Table, pretty: &Table) -> mlua::Result<Table> {
    let load = |name, source| lua.load(source).set_name(built_in(name));
    let ids: Table = load("ids", include_str!("../../lua/draw/ids.lua")).call((native, pretty))?;
    let routing: Table =
        load("routing", include_str!("../../lua/draw/routing.lua")).call((pretty, &ids))?;
    let charts: Table =
        load("charts", include_str!("../../lua/draw/charts.lua")).call((native, pretty))?;
    load("trace", include_str!("../../lua/draw/trace.lua")).call::<()>((native, pretty))?;
    load("packets", include_str!("../../lua/draw/packets.lua")).call::<()>((native, pretty))?;
    lua.create_table_from([("ids", ids), ("routing", routing), ("charts", charts)])
}

/// The functions of the shell that need Rust.
fn functions(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let functions = Functions::new(lua, context)?;
    bytes::add_to(&functions)?;
    outside::add_to(&functions)?;
    tasks::add_to(&functions)?;
    simulation::add_to(&functions)?;
    cluster::add_to(&functions)?;
    packets::add_untap_to(&functions)?;
    files::add_to(&functions)?;
    rows::add_to(&functions)?;
    Ok(functions.into_table())
}

/// The functions that ask a node; their first argument says which.
fn asking(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let asking = Functions::new(lua, context)?;
    network::add_to(&asking)?;
    packets::add_to(&asking)?;
    tasks::add_rpc_to(&asking)?;
    Ok(asking.into_table())
}

/// The node that a number means to a method of a network or a cluster, for the functions that ask one.
fn site(lua: &Lua, (method, arguments): (String, MultiValue)) -> Result<AnyUserData, Trouble> {
    let mut arguments = Arguments::new(Usage::new("", ""), arguments);
    let site = if method.starts_with("c:") {
        let member = cluster::which(&mut arguments);
        member.map(|which| Site { place: Place::Elsewhere(which), owner: "c:" })
    } else {
        let node = SimulatedNode::of(&mut arguments);
        node.map(|node| Site { place: Place::Here(Host::Simulated(node)), owner: "n:" })
    };
    Ok(lua.create_userdata(site.map_err(|complaint| complaint.of(&method))?)?)
}

/// Another node of this user's.
fn there(lua: &Lua, (caller, value): (String, LuaValue)) -> Result<AnyUserData, Trouble> {
    let Some(which) = others::which_of(&value) else {
        let got = convert::describe(&value);
        let expected = "a port, \"address:port\", a contact or the path of a control socket";
        return Err(Complaint(format!("{caller}: node: expected {expected}, got {got}")).into());
    };
    Ok(lua.create_userdata(Site { place: Place::Elsewhere(which), owner: "" })?)
}

/// The methods of simulated networks and of clusters.
fn methods(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let methods = Functions::new(lua, context)?;
    simulation::add_methods_to(&methods)?;
    cluster::add_methods_to(&methods)?;
    Ok(methods.into_table())
}

fn natives(lua: &Lua, context: &Rc<Context>, options: &Options) -> mlua::Result<Table> {
    let functions = functions(lua, context)?;
    functions.set("gc", plain_checked(lua, |lua, what: LuaValue| collected(lua, &what))?)?;

    let native = lua.create_table()?;
    native.set("functions", functions)?;
    native.set("methods", methods(lua, context)?)?;
    native.set("asking", asking(lua, context)?)?;
    native.set("site", plain_checked(lua, site)?)?;
    native.set("there", plain_checked(lua, there)?)?;
    native.set("has_node", context.host.is_some())?;
    native.set("shapes", &context.shapes)?;
    native.set("setting_names", lua.create_sequence_from(SETTINGS.iter().map(|s| s.name))?)?;
    native.set("pending", Lua::poll_pending())?;
    let guard = context.guard.clone();
    native.set("interrupted", plain(lua, move |_, ()| Ok(guard.strikes()))?)?;
    native.set("trace", plain(lua, |lua, ()| Ok(failure::trace(lua)))?)?;
    native.set("message", plain(lua, message)?)?;
    native.set("compile", plain(lua, compiled)?)?;
    let suggest = |_: &Lua, (name, list): (String, Vec<String>)| {
        Ok(did_you_mean(&name, list.iter().map(String::as_str)))
    };
    native.set("did_you_mean", plain(lua, suggest)?)?;
    native.set("located", plain(lua, |lua, problem: LuaValue| located(lua, problem))?)?;
    native.set("collect", plain(lua, |lua, what: String| collect(lua, &what))?)?;
    native.set("lua_kilobytes", plain(lua, |lua, ()| Ok(lua.used_memory() as f64 / 1024.0))?)?;
    add_text(lua, &native, context)?;
    let folder = options.lessons.clone();
    let read = move |lua: &Lua, ()| lessons::read(lua, folder.as_deref());
    native.set("lessons", plain_checked(lua, read)?)?;
    native.set("remember", plain_checked(lua, |_, table: Table| results::remember(&table))?)?;
    native.set("results", plain_checked(lua, |lua, ()| results::reached(lua))?)?;
    let script = options.script.as_ref().map(|script| script.folder.clone());
    let read = move |lua: &Lua, name: LuaValue| {
        let (source, file) = modules::read(script.as_deref(), &name)?;
        Ok((lua.create_string(source)?, file))
    };
    native.set("read_module", plain_checked(lua, read)?)?;
    Ok(native)
}

/// What `print` and the like are made of.
fn add_text(lua: &Lua, native: &Table, context: &Rc<Context>) -> mlua::Result<()> {
    native
        .set("escape", plain(lua, |_, (text, lines): (LuaString, bool)| escaped(&text, lines))?)?;
    let seal = format!("\x1b{:016x}", getrandom::u64().map_err(mlua::Error::external)?);
    native.set("seal", seal.as_str())?;
    let styled = move |_: &Lua, text: LuaString| {
        showable(&text).map(|text| escape::escape_styled(&text, &seal))
    };
    native.set("escape_styled", plain(lua, styled)?)?;
    native.set("unicode", terminal::takes_unicode())?;
    let steps = |_: &Lua, text: LuaString| Ok(cursor::steps(&text.to_string_lossy()));
    native.set("steps", plain(lua, steps)?)?;
    let look = |_: &Lua, ()| Ok((terminal::width(), terminal::takes_colours(&io::stdout())));
    native.set("terminal", plain(lua, look)?)?;
    let id_of = |_: &Lua, value: LuaValue| Ok(arguments::id_of(&value).map(|id| id.to_string()));
    native.set("id_of", plain(lua, id_of)?)?;
    native.set("describe", plain(lua, |_, value: LuaValue| Ok(convert::describe(&value)))?)?;
    let tohex = |_: &Lua, text: LuaString| Ok(hex(&text.as_bytes()));
    native.set("tohex", plain(lua, tohex)?)?;
    let own = context.clone();
    let write = move |_: &Lua, text: LuaString| {
        let text = text.to_string_lossy();
        if own.format != Format::Text {
            // Standard output is for programs, which expect only results there.
            own.output.note(&text);
            return Ok(());
        }
        Ok(own.print(&text).map_err(|error| Complaint::new("print", error))?)
    };
    native.set("write", plain_checked(lua, write)?)
}

/// An error of the shell's own functions in the form that the user reads: with the place from which they were
/// called. Any other error stays as it is.
fn located(lua: &Lua, problem: LuaValue) -> mlua::Result<LuaValue> {
    let text = match &problem {
        LuaValue::Error(error) => message_of(error),
        LuaValue::String(text) => {
            let text = text.to_string_lossy();
            match without_place(&text) {
                message if message.len() < text.len() => message.to_owned(),
                _ => return Ok(problem),
            }
        }
        _ => return Ok(problem),
    };
    // The prelude's names for its own copies of some library functions.
    let text = text.replace("'raw_", "'");
    (place(lua) + &text).into_lua(lua)
}

/// The message of an error that Lua or one of our functions raised; `None` for a value that a program raised and
/// that is no text.
fn message(_: &Lua, problem: LuaValue) -> mlua::Result<Option<String>> {
    let text = match &problem {
        LuaValue::Error(error) => message_of(error),
        LuaValue::String(text) => message_of(&mlua::Error::runtime(text.to_string_lossy())),
        _ => return Ok(None),
    };
    Ok(Some(text))
}

/// What somebody typed, as the prompt takes it: a function, and whether its first value is none of the chunk's; or
/// `false`, and what is wrong with it.
fn compiled(lua: &Lua, (source, environment): (LuaString, Table)) -> mlua::Result<MultiValue> {
    match Chunk::typed(source.as_bytes()).compile(lua, &environment) {
        Ok(compiled) => compiled.into_parts().into_lua_multi(lua),
        Err(error) => (false, message_of(&error)).into_lua_multi(lua),
    }
}

fn escaped(text: &LuaString, lines: bool) -> mlua::Result<String> {
    showable(text).map(|bytes| escape::escape(&bytes, lines))
}

fn showable(text: &LuaString) -> mlua::Result<BorrowedBytes> {
    let bytes = text.as_bytes();
    if bytes.len() > SHOWN_BYTES_MAX {
        return Err(mlua::Error::runtime(format!("{} bytes are too many to show", bytes.len())));
    }
    Ok(bytes)
}

fn arg_table(lua: &Lua, script: &Script) -> mlua::Result<Table> {
    let text = |word: &OsString| lua.create_string(word.as_bytes());
    let arguments = script.arguments.iter().map(text).collect::<mlua::Result<Vec<_>>>()?;
    let arg = lua.create_sequence_from(arguments)?;
    arg.set(0, text(&script.name)?)?;
    Ok(arg)
}

/// `gc`: frees memory as asked, and tells how much is used.
fn collected(lua: &Lua, what: &LuaValue) -> Result<Table, Trouble> {
    let expected = "gc: what: expected nothing, \"collect\" or \"step\"";
    match what {
        LuaValue::Nil => {}
        LuaValue::String(what) if *what == "collect" || *what == "step" => {
            collect(lua, &what.to_str()?)?;
        }
        other => {
            let got = convert::describe(other);
            return Err(Complaint(format!("{expected}, got {got}")).into());
        }
    }
    let kilobytes = |bytes: usize| bytes as f64 / 1024.0;
    let used = [
        ("lua", kilobytes(lua.used_memory())),
        ("max", kilobytes(MEMORY_MAX)),
        ("process", process_kilobytes()),
    ];
    Ok(lua.create_table_from(used)?)
}

fn collect(lua: &Lua, what: &str) -> mlua::Result<bool> {
    if what == "step" {
        return lua.gc_step();
    }
    lua.gc_collect()?;
    Ok(true)
}

fn json_lines(values: &MultiValue, context: &Context) -> mlua::Result<String> {
    let line = |value| match context.json(value) {
        Ok(json) => Ok(format!("{json}\n")),
        Err(error) => Err(mlua::Error::runtime(error)),
    };
    values.iter().map(line).collect()
}

/// Each result as a table of its own, an empty line apart.
fn csv_tables(values: &MultiValue, context: &Context) -> mlua::Result<String> {
    let tables = values.iter().filter(|value| !value.is_nil()).map(|value| {
        let table =
            rows::csv(value, rows::RowReader::Anybody, context).map_err(mlua::Error::runtime)?;
        Ok(String::from_utf8_lossy(&table).into_owned())
    });
    Ok(tables.collect::<mlua::Result<Vec<_>>>()?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> Engine {
        let end = crate::shell::NodeGuard::of(None).unwrap();
        Engine::start(None, ShellOutput::new(), Options::default(), end.way().clone()).unwrap()
    }

    /// What may follow a text; asked again as long as the thread is too busy.
    fn names(engine: &Engine, text: &str) -> Vec<String> {
        let ask = |_| engine.names(Cursor::at_end_of(text)).texts;
        (0..50).map(ask).find(|names| !names.is_empty()).unwrap_or_default()
    }

    #[tokio::test]
    async fn what_a_call_returns_is_known_without_calling_it() {
        let engine = alone();
        let run = |source: String| engine.run(Chunk::program(source.as_bytes(), "=test".into()));
        let make = "k = sha1('k') N = net{nodes = 30} N:add(1, k, 'v') N:kill{3} N:add(2, k, 'w') N:findnode(4, k)";
        run(make.to_owned()).await.unwrap();
        for call in [
            "add(5, k, 'x')",
            "add(5, k, 'x').stored[1]",
            "add(5, k, 'x').deliveries[1]",
            "findvalue(7, k)",
            "findvalue(7, k).values[1]",
            "findvalue(7, k).values[1].who",
            "findvalue(7, k).queries[1]",
            "findnode(7, k)",
            "findnode(7, k).nodes[1]",
            "trace(findvalue, 7, k)",
            "trace(add, 7, k, 'y')",
            "lookups(4)[1]",
            "ping(7, N:contacts(7)[1])",
            "getsocket(7, N:contacts(7)[1])",
            "bootstrap(7, N:contacts(7)[1])",
            "contacts(7)[1]",
            "routing(7)",
            "routing(7).buckets[1]",
            "routing(7).buckets[1].contacts[1]",
            "tree(7, k)",
            "tree(7, k).nearest[1]",
            "tree(7, k).nearest[1].who",
            "ring(7)",
            "ring(7).known[1]",
            "estimate(7)",
            "estimate(7).samples[1]",
            "settings(7)[1]",
            "stats()",
            "node(7)",
            "node(7).node()",
            "node(7).node().counters",
            "node(7).node().stored",
            "node(7):findvalue(k).values[1]",
        ] {
            let known = names(&engine, &format!("net{{}}:{call}."));
            let known: String = known.iter().map(|name| format!("['{name}'] = 1,")).collect();
            let check = format!(
                "local known = {{{known}}} for name in next, N:{call} do assert(known[name], 'not known: ' .. tostring(name)) end"
            );
            let checked = run(check).await;
            assert!(checked.is_ok(), "{call}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn completion_runs_nothing_of_the_users() {
        let engine = alone();
        let bad = "ran = 0 local function bad() ran = ran + 1 return {} end
            t = setmetatable({a = {}}, {__index = bad, __call = bad, __len = bad, __pairs = bad, __name = 'x'}) f = bad
            inner = setmetatable({}, {__index = setmetatable({field = 1}, {__index = bad})})";
        let run = |source: &str| engine.run(Chunk::program(source.as_bytes(), "=test".into()));
        run(bad).await.unwrap();
        for text in ["t.", "t.x.", "t().", "f().", "f(t).a.", "t[1].", "t:x(", "f(", "print(t.x, "]
        {
            engine.names(Cursor::at_end_of(text));
            let call = Cursor::at_end_of(text).call_around().map(|frame| frame.callee.clone());
            engine.hint(call.unwrap_or_default());
        }
        assert_eq!(names(&engine, "t."), ["a"]);
        assert_eq!(names(&engine, "inner."), ["field"]);
        run("assert(ran == 0)").await.unwrap();
    }
}
