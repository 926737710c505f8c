//! Real nodes as child processes: `cluster` and what its methods are made of.
//!
//! A child is `kademlua serve PORT --until-eof`: it says when it is ready, and answers at its control socket,
//! like any node of this user. It ends when its standard input does, which the system closes however this process
//! ends, so no child is left behind.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mlua::{AnyUserData, Lua, UserData, Value as LuaValue};

use crate::net::door::{self, Which};

use super::arguments::{Arguments, Complaint};
use super::functions::{Context, Functions, Trouble};
use super::host::Host;
use super::kilobytes_of;
use super::progress::Progress;

/// Nodes of a cluster: each is a process of some ten megabytes.
const NODES_MAX: usize = 200;

/// How long a node may take to end in order: far longer than it needs to keep what it has.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// A cluster, as Lua holds it.
struct Cluster {
    members: Vec<Arc<Member>>,
    _state: Option<TemporaryFolder>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All of them end at the same time; each is waited for as it is dropped.
        for member in &self.members {
            member.running().iter_mut().for_each(|running| drop(running.input.take()));
        }
    }
}

/// A folder that is removed when this is dropped.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> std::io::Result<TemporaryFolder> {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("kademlua-cluster-{}-{number}", std::process::id());
        let folder = TemporaryFolder(std::env::temp_dir().join(name));
        std::fs::create_dir(&folder.0)?;
        Ok(folder)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Member {
    port: u16,
    /// The node through which it joins.
    via: SocketAddr,
    /// Where it keeps its state, if it does.
    state: Option<PathBuf>,
    /// Gone once the child was killed.
    running: Mutex<Option<ChildNode>>,
}

impl Member {
    fn running(&self) -> MutexGuard<'_, Option<ChildNode>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn killed(&self) -> String {
        format!("the node at port {} was killed", self.port)
    }
}

struct ChildNode {
    child: Child,
    port: u16,
    /// When this is closed, the child ends in order.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl ChildNode {
    /// Waits until the child says that it has joined.
    fn await_ready(&mut self) -> std::io::Result<()> {
        match self.output.read_line(&mut String::new())? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl UserData for Cluster {}

impl ChildNode {
    /// Ends the child without giving it time for anything.
    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its socket is left behind; looking for the node removes it.
        let _ = door::all(|port| port == self.port);
    }
}

impl Drop for ChildNode {
    fn drop(&mut self) {
        // Should this process end meanwhile, the child still tidies up behind itself.
        drop(self.input.take());
        let end = Instant::now() + ENDS_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Adds `cluster`, which starts one.
pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add_async("cluster", "20, true", start)
}

/// Adds what the methods of a cluster are made of. The first argument of each is the cluster.
pub(crate) fn add_methods_to(methods: &Functions) -> mlua::Result<()> {
    methods.add("c:kill", "1", |_, _, mut arguments| {
        let member = member_of(&mut arguments)?;
        let mut running = member.running().take();
        running.iter_mut().for_each(ChildNode::kill);
        Ok(running.is_some())
    })?;
    methods.add_async("c:start", "1", restart)?;
    methods.add("c:members", "", |_, lua, mut arguments| {
        let value = arguments.any();
        let list = lua.create_table()?;
        for member in &cluster_of(&arguments, &value)?.members {
            let process = member.running().as_ref().map(|running| running.child.id());
            let table = lua.create_table()?;
            table.raw_set("port", member.port)?;
            table.raw_set("alive", process.is_some())?;
            if let Some(process) = process {
                table.raw_set("process", process)?;
                table.raw_set("kilobytes", kilobytes_of(process))?;
                table.raw_set("descriptors", descriptors_of(process))?;
            }
            list.raw_push(table)?;
        }
        Ok(list)
    })
}

async fn start(
    context: Rc<Context>,
    lua: Lua,
    mut arguments: Arguments,
) -> Result<AnyUserData, Trouble> {
    let count = arguments.count("count", 20, NODES_MAX)?;
    let keeps = arguments.any();
    let keeps = keeps.as_boolean().or(keeps.is_nil().then_some(false)).ok_or_else(|| {
        arguments.wrong("keep", "true, false or nothing", &keeps, &arguments.advice())
    })?;
    let failed = |error: std::io::Error| arguments.complaint(format_args!("cannot start: {error}"));
    let ports = free_ports(count).map_err(failed)?;
    // Through the shell's own node, so that it finds what they store; but addresses of 127.0.0.1
    // must not get into a network beyond this machine.
    let own = context.host.as_ref().and_then(Host::address);
    let via = own.filter(|own| own.ip().is_loopback());
    let via = via.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0])));
    let folder = keeps.then(TemporaryFolder::new).transpose().map_err(failed)?;
    let member = |port: u16| {
        let state = folder.as_ref().map(|folder| folder.0.join(port.to_string()));
        let member = Member { port, via, state, running: Mutex::new(None) };
        *member.running() = Some(spawn(&member)?);
        Ok(Arc::new(member))
    };
    let members: Result<Vec<_>, _> = ports.into_iter().map(member).collect();
    let members = members.map_err(failed)?;
    // They all start at the same time, whichever is waited for first.
    let progress = Progress::begin("nodes start", members.len() as u64);
    for (done, member) in (1..).zip(&members) {
        ready(member.clone()).await.map_err(|error| arguments.complaint(error))?;
        progress.set(done);
    }
    Ok(lua.create_userdata(Cluster { members, _state: folder })?)
}

/// `c:start(i)`: a node that was killed comes back at its port, with its state if it keeps one. Returns
/// whether it was dead.
async fn restart(_: Rc<Context>, _: Lua, mut arguments: Arguments) -> Result<bool, Trouble> {
    let member = member_of(&mut arguments)?;
    {
        let mut running = member.running();
        if running.is_some() {
            return Ok(false);
        }
        let child = spawn(&member);
        let failed = |error| arguments.complaint(format_args!("cannot start: {error}"));
        *running = Some(child.map_err(failed)?);
    }
    ready(member).await.map_err(|error| arguments.complaint(error))?;
    Ok(true)
}

/// Waits on a thread of its own until a child is ready, so that Ctrl-C does not have to wait for it.
async fn ready(member: Arc<Member>) -> Result<(), String> {
    let waiting = tokio::task::spawn_blocking(move || match member.running().as_mut() {
        None => Err(member.killed()),
        Some(running) => running
            .await_ready()
            .map_err(|error| format!("the node at port {} is gone: {error}", member.port)),
    });
    waiting.await.map_err(|error| error.to_string())?
}

/// Open file descriptors of a process, where the system tells.
fn descriptors_of(process: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.count())
}

/// UDP ports of loopback that were free a moment ago.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let sockets = (0..count).map(bind).collect::<std::io::Result<Vec<_>>>()?;
    sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect()
}

fn spawn(member: &Member) -> std::io::Result<ChildNode> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", &member.port.to_string(), "--until-eof", "--log", "off", "--bootstrap"]);
    command.arg(member.via.to_string());
    if let Some(state) = &member.state {
        command.arg("--state").arg(state);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Ctrl-C at the terminal is not meant for it.
    let mut child = command.process_group(0).spawn()?;
    let input = child.stdin.take().expect("piped just above");
    let output = BufReader::new(child.stdout.take().expect("piped just above"));
    Ok(ChildNode { child, port: member.port, input: Some(input), output })
}

/// The node that a number means to a method of a cluster.
pub(crate) fn which(arguments: &mut Arguments) -> Result<Which, Complaint> {
    let member = member_of(arguments)?;
    let running = member.running();
    let running = running.as_ref().ok_or_else(|| arguments.complaint(member.killed()))?;
    // Another node, on another address, may have the same port.
    Ok(Which::Process { port: member.port, process: running.child.id() })
}

fn cluster_of(
    arguments: &Arguments,
    value: &LuaValue,
) -> Result<mlua::UserDataRef<Cluster>, Complaint> {
    let cluster = value.as_userdata().and_then(|data| data.borrow::<Cluster>().ok());
    cluster.ok_or_else(|| arguments.wrong("cluster", "what cluster returned", value, ""))
}

fn member_of(arguments: &mut Arguments) -> Result<Arc<Member>, Complaint> {
    let (value, which) = (arguments.any(), arguments.any());
    let cluster = cluster_of(arguments, &value)?;
    let number = which.as_integer().and_then(|number| usize::try_from(number).ok());
    let member = number.and_then(|number| cluster.members.get(number.checked_sub(1)?));
    member.cloned().ok_or_else(|| {
        let expected = format!("a whole number from 1 to {}", cluster.members.len());
        arguments.wrong("node", &expected, &which, "")
    })
}
