//! The other end of the door: a node in another process, asked like one's own.
//!
//! A thread reads what the node says and hands it to the task that waits for it, in any runtime; the task that makes
//! a request writes it.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use nix::unistd::geteuid;
use tokio::sync::{mpsc, oneshot};

use super::lines::{
    CallResult, ClientRequest, Greeting, Heard, OfferedCall, PROTOCOL, REQUEST_MAX, SAID_MAX, What,
    written,
};
use super::place::{clean, connect};
use crate::control::{Answer, Ask, Bytes, Code, Filter, Problem, Reading};
use crate::net::ask::Readings;
use crate::net::handle::{IncomingCall, WayBack};
use crate::net::observer::Losses;

/// Events that wait in this process for the watcher; in the node's process, as many more wait as a tap holds.
const EVENTS_MAX: usize = 1_024;

/// Calls that wait for the task that answers them; more of them fail.
const CALLS_MAX: usize = 64;

/// Why a node cannot be attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no node any more, or there never was one.
    #[error("no node listens at {}", .0.display())]
    Gone(PathBuf),
    /// It is there and says nothing.
    #[error("the node at {} does not answer", .0.display())]
    Silent(PathBuf),
    /// Its process belongs to another user.
    #[error("the process at {} is not one of yours", .0.display())]
    Strange(PathBuf),
    /// It refuses.
    #[error("{0}")]
    Refused(Problem),
    /// It speaks another version of the protocol.
    #[error(
        "the node speaks version {0} of the control protocol, and this program version {PROTOCOL}"
    )]
    Version(u32),
    /// It is no node.
    #[error("what listens at {} is no node", .0.display())]
    NoNode(PathBuf),
    /// The system failed.
    #[error("{}: {reason}", .path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// A node in another process of the same user. Clones are the same attachment, which ends with the last.
#[derive(Clone, Debug)]
pub struct AttachedNode(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    greeting: Greeting,
    process: Option<u32>,
    last: AtomicU64,
    wire: Arc<Wire>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wire.close();
    }
}

/// The connection, and the tasks that wait for something.
#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    /// Held while a line is written.
    writing: Mutex<()>,
    /// `None` once nothing more comes.
    waiting: Mutex<Option<HashMap<u64, Waiter>>>,
}

/// What waits for the answers to a request.
#[derive(Debug)]
enum Waiter {
    /// A task that waits for one answer, in the form in which it came.
    Answer(oneshot::Sender<Result<String, Problem>>),
    Events {
        begun: Option<BegunSender>,
        events: mpsc::Sender<Reading>,
        losses: Losses,
        lost: u64,
    },
    Calls {
        begun: Option<BegunSender>,
        name: Vec<u8>,
        calls: mpsc::Sender<IncomingCall>,
    },
}

/// Told when a watch or an offer has begun.
type BegunSender = oneshot::Sender<Result<(), Problem>>;

impl AttachedNode {
    /// Attaches to the node whose control socket this is. A socket that a dead node left in the folder is
    /// removed. Blocks, for some seconds if the node hangs.
    ///
    /// # Errors
    /// If there is no node of this user with this version of the protocol, or it lets nobody in.
    pub fn connect(path: &Path) -> Result<AttachedNode, AttachError> {
        let failed = |reason: io::Error| {
            let path = path.to_owned();
            match reason.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AttachError::Silent(path),
                io::ErrorKind::ConnectionRefused => {
                    clean(&path);
                    AttachError::Gone(path)
                }
                io::ErrorKind::NotFound => AttachError::Gone(path),
                _ => AttachError::System { path, reason },
            }
        };
        let stream = connect(path).map_err(failed)?;
        let (user, process) = peer_of(&stream).map_err(failed)?;
        if user != geteuid().as_raw() {
            return Err(AttachError::Strange(path.to_owned()));
        }
        let mut input = BufReader::new(stream.try_clone().map_err(failed)?);
        let first = read_line(&mut input, REQUEST_MAX).map_err(failed)?;
        let greeting = greeting(&first, path)?;
        stream.set_read_timeout(None).map_err(failed)?;
        let waiting = Mutex::new(Some(HashMap::new()));
        let wire = Arc::new(Wire { stream, writing: Mutex::default(), waiting });
        let own = wire.clone();
        let read = move || own.read(input);
        thread::Builder::new().name("kademlua-attached".into()).spawn(read).map_err(failed)?;
        let last = AtomicU64::new(0);
        Ok(AttachedNode(Arc::new(Connection { greeting, process, last, wire })))
    }

    /// The first line that the node said.
    pub fn greeting(&self) -> &Greeting {
        &self.0.greeting
    }

    /// Its process, where the system tells.
    pub fn process(&self) -> Option<u32> {
        self.0.process
    }

    /// Whether the node has ended or was lost.
    pub fn is_closed(&self) -> bool {
        self.0.wire.is_closed()
    }

    /// Asks anything that can be asked of a node.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Problem> {
        ask.check()?;
        let (sender, answer) = oneshot::channel();
        let _request = self.send(What::Ask(ask.clone()), Waiter::Answer(sender))?;
        let text = answer.await.unwrap_or_else(|_| Err(gone()))?;
        let mut json = serde_json::Deserializer::from_str(&text);
        ask.read_answer(&mut json).map_err(|error| {
            Problem::new(Code::System, format_args!("the answer cannot be read: {error}"))
        })
    }

    /// All packets and news from now on that a filter takes.
    ///
    /// # Errors
    /// If the node is gone.
    pub async fn readings(&self, filter: Filter) -> Result<Readings, Problem> {
        let (begun, ready) = oneshot::channel();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let losses = Losses::default();
        let waiting =
            Waiter::Events { begun: Some(begun), events: sender, losses: losses.clone(), lost: 0 };
        let request = self.send(What::Watch(filter), waiting)?;
        ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Watch { events, losses, _request: request }.into())
    }

    /// Offers an RPC at the node. Its calls come out of what this returns.
    ///
    /// # Errors
    /// If the node does not take it.
    pub async fn register(&self, name: &[u8]) -> Result<Offered, Problem> {
        let (begun, ready) = oneshot::channel();
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        let waiting = Waiter::Calls { begun: Some(begun), name: name.to_vec(), calls: sender };
        let request = self.send(What::Offer(Bytes::from(name)), waiting)?;
        ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Offered { calls, _request: request })
    }

    fn send(&self, what: What, waiting: Waiter) -> Result<PendingRequest, Problem> {
        let id = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.wire.expect(id, waiting)?;
        let pending = PendingRequest { id, attached: self.clone() };
        self.0.wire.write(&ClientRequest { id, what })?;
        Ok(pending)
    }
}

/// A request that somebody waits for. Dropped before its end, it is cancelled.
#[derive(Debug)]
struct PendingRequest {
    id: u64,
    attached: AttachedNode,
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let wire = &self.attached.0.wire;
        if wire.forget(self.id).is_some() {
            // If that cannot be written, nothing goes on anyway.
            let _ = wire.write(&ClientRequest { id: self.id, what: What::Cancel {} });
        }
    }
}

/// What is watched at a node in another process. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::net) struct Watch {
    events: mpsc::Receiver<Reading>,
    losses: Losses,
    _request: PendingRequest,
}

impl Watch {
    pub(in crate::net) async fn next(&mut self) -> Option<Reading> {
        self.events.recv().await
    }

    pub(in crate::net) fn losses(&self) -> Losses {
        self.losses.clone()
    }
}

/// An RPC that is offered at a node in another process. It is taken back when this is dropped.
#[derive(Debug)]
pub struct Offered {
    calls: mpsc::Receiver<IncomingCall>,
    _request: PendingRequest,
}

impl Offered {
    /// The next call; `None` once the node is gone or has ended the offer.
    pub async fn recv(&mut self) -> Option<IncomingCall> {
        self.calls.recv().await
    }
}

impl Wire {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.waiting().is_none()
    }

    fn expect(&self, id: u64, waiting: Waiter) -> Result<(), Problem> {
        self.waiting().as_mut().ok_or_else(gone)?.insert(id, waiting);
        Ok(())
    }

    fn forget(&self, id: u64) -> Option<Waiter> {
        self.waiting().as_mut()?.remove(&id)
    }

    /// Nothing more comes or goes.
    fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        // Waiting tasks learn about it when the senders are dropped.
        let waiting = self.waiting().take();
        drop(waiting);
    }

    fn write(&self, request: &ClientRequest) -> Result<(), Problem> {
        let line = written(request);
        if line.len() > REQUEST_MAX {
            let problem = format_args!("a request has at most {REQUEST_MAX} bytes");
            return Err(Problem::new(Code::Refused, problem));
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = (&self.stream).write_all(&line);
        written.map_err(|_| {
            // Half a line may have been written.
            self.close();
            gone()
        })
    }

    /// Hands on what the node says, until it says no more.
    fn read(self: Arc<Wire>, mut input: BufReader<UnixStream>) {
        while let Ok(line) = read_line(&mut input, SAID_MAX) {
            let Ok(heard) = serde_json::from_slice::<Heard<'_>>(&line) else { break };
            self.hand_on(heard);
        }
        self.close();
    }

    fn hand_on(self: &Arc<Wire>, heard: Heard<'_>) {
        let Heard { id: Some(id), answer, problem, event, call } = heard else { return };
        let mut waiting = self.waiting();
        let Some(all) = waiting.as_mut() else { return };
        if let Some(problem) = problem {
            // A request hears nothing after this.
            match all.remove(&id) {
                Some(Waiter::Answer(sender)) => drop(sender.send(Err(problem))),
                Some(
                    Waiter::Events { begun: Some(begun), .. }
                    | Waiter::Calls { begun: Some(begun), .. },
                ) => drop(begun.send(Err(problem))),
                Some(Waiter::Events { .. } | Waiter::Calls { .. }) | None => {}
            }
            return;
        }
        if let Some(answer) = answer {
            let asked = matches!(all.get(&id), Some(Waiter::Answer(_)));
            if let Some(Waiter::Answer(sender)) = asked.then(|| all.remove(&id)).flatten() {
                let _ = sender.send(Ok(answer.get().to_owned()));
                return;
            }
        }
        match all.get_mut(&id) {
            Some(Waiter::Events { begun, events, losses, lost }) => {
                if let Some(begun) = begun.take() {
                    let _ = begun.send(Ok(()));
                }
                if let Some(mut event) = event {
                    let there = event.lost.unwrap_or(0);
                    event.lost = Some(there + *lost);
                    *lost += u64::from(events.try_send(event).is_err());
                    losses.set(there + *lost);
                }
            }
            Some(Waiter::Calls { begun, name, calls }) => {
                if let Some(begun) = begun.take() {
                    let _ = begun.send(Ok(()));
                }
                // A call that finds no place fails when it is dropped, which writes a line.
                let call = call.map(|call| self.incoming(id, name, call));
                let refused = call.and_then(|call| calls.try_send(call).err());
                drop(waiting);
                drop(refused);
            }
            Some(Waiter::Answer(_)) | None => {}
        }
    }

    fn incoming(self: &Arc<Wire>, id: u64, name: &[u8], call: OfferedCall) -> IncomingCall {
        let OfferedCall { call, from, args } = call;
        let wire: Weak<Wire> = Arc::downgrade(self);
        let way_back = WayBack::new(move |result| {
            let Some(wire) = wire.upgrade() else { return };
            let returned = CallResult { call, values: result.ok() };
            // Nobody waits for it once the node has ended.
            let _ = wire.write(&ClientRequest { id, what: What::Return(returned) });
        });
        IncomingCall { from, name: name.to_vec(), args, way_back }
    }
}

fn gone() -> Problem {
    Problem::new(Code::Gone, "the node has ended, or has closed the door")
}

/// The user and the process at the other end.
#[cfg(target_os = "linux")]
fn peer_of(stream: &UnixStream) -> io::Result<(u32, Option<u32>)> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

    let peer = getsockopt(stream, PeerCredentials)?;
    // A process outside this pid namespace has no number here.
    Ok((peer.uid(), u32::try_from(peer.pid()).ok().filter(|&process| process > 0)))
}

#[cfg(not(target_os = "linux"))]
fn peer_of(stream: &UnixStream) -> io::Result<(u32, Option<u32>)> {
    let (user, _) = nix::unistd::getpeereid(stream)?;
    Ok((user.as_raw(), None))
}

fn greeting(line: &[u8], path: &Path) -> Result<Greeting, AttachError> {
    #[derive(serde::Deserialize)]
    struct Version {
        protocol: u32,
    }
    if let Ok(Heard { problem: Some(problem), .. }) = serde_json::from_slice(line) {
        return Err(AttachError::Refused(problem));
    }
    match serde_json::from_slice(line) {
        Ok(Version { protocol: PROTOCOL }) => {}
        Ok(Version { protocol }) => return Err(AttachError::Version(protocol)),
        Err(_) => return Err(AttachError::NoNode(path.to_owned())),
    }
    serde_json::from_slice(line).map_err(|_| AttachError::NoNode(path.to_owned()))
}

/// A line of at most `max` bytes.
fn read_line(input: &mut impl BufRead, max: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input.take(max as u64).read_until(b'\n', &mut line)?;
    match line.last() {
        Some(b'\n') => Ok(line),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
