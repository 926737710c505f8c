//! The node's end of the door: it lets clients in, and serves them.
//!
//! A task on the node's own thread waits for clients. They are served on another thread, which starts with the
//! first of them, so that writing to them holds up no packet.
//!
//! A client costs bounded memory. It has few requests under way, its lines have a longest length, and no
//! line is made for it while it does not read the last one; if it stops reading it is dropped.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use serde::Deserialize;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::lines::{
    CallResult, ClientRequest, Greeting, Line, OfferedCall, PROTOCOL, REQUEST_MAX, Role, SAID_MAX,
    Said, What, written,
};
use super::place::{BoundName, listen};
use crate::control::{Answer, Ask, Bytes, Capture, Code, Filter, Look, Problem};
use crate::message::Contact;
use crate::net::handle::{IncomingCall, Stopped, WeakHandle};

/// Clients at once: a screen full of shells.
const CLIENTS_MAX: usize = 16;

/// Requests of one client that are under way.
const UNDER_WAY_MAX: usize = 64;

/// Calls of one offer that wait for the client; the oldest fails for a newer one. The node itself gives them
/// up sooner.
const CALLS_MAX: usize = 64;

/// A client that reads nothing for this long although something is there for it is dropped.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// When no more clients can be let in for want of descriptors, the node tries again after this
/// time.
const PAUSE: Duration = Duration::from_secs(1);

/// The door of a node that is about to begin.
pub(in crate::net) struct Door {
    listener: std::os::unix::net::UnixListener,
    name: BoundName,
    greeting: Greeting,
    keeps_packets: bool,
}

impl Door {
    /// Makes the socket. A node that cannot have one runs without.
    pub(in crate::net) fn open(own: Contact, role: Role, keeps_packets: bool) -> Option<Door> {
        match listen(own.address) {
            Ok((listener, name)) => {
                debug!(path = %name.path.display(), "control socket");
                let greeting = Greeting {
                    kademlua: env!("CARGO_PKG_VERSION").to_owned(),
                    protocol: PROTOCOL,
                    role,
                    process: std::process::id(),
                    contact: own,
                };
                Some(Door { listener, name, greeting, keeps_packets })
            }
            Err(refusal) => {
                warn!("nobody can attach to this node: {refusal}");
                None
            }
        }
    }

    /// Lets clients in, as long as the node lives.
    pub(in crate::net) async fn serve(self, node: WeakHandle) {
        let Door { listener, name: _name, greeting, keeps_packets } = self;
        let listener = match UnixListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "nobody can attach to this node"),
        };
        let desk = DoorState { node, greeting: written(&greeting), keeps_packets, rings: 0.into() };
        let (desk, places) = (Arc::new(desk), Arc::new(Semaphore::new(CLIENTS_MAX)));
        let mut clients = None;
        loop {
            let admitted = match listener.accept().await {
                Ok((stream, _)) => admit(stream, &places),
                Err(error) => {
                    debug!(%error, "no client was let in");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(admitted) = admitted else { continue };
            if clients.is_none() {
                clients = begin(desk.clone())
                    .inspect_err(|error| warn!(%error, "clients cannot be served"))
                    .ok();
            }
            if let Some(clients) = &clients {
                // The other end waits as long as this one exists.
                let _ = clients.send(admitted);
            }
        }
    }
}

/// A client at the door, and its place.
type Admitted = (std::os::unix::net::UnixStream, OwnedSemaphorePermit);

/// Lets in clients of the node's own user, if there is room.
fn admit(stream: UnixStream, places: &Arc<Semaphore>) -> Option<Admitted> {
    let peer = stream.peer_cred().ok()?;
    if peer.uid() != geteuid().as_raw() {
        warn!(user = peer.uid(), "another user was turned away from the control socket");
        return None;
    }
    match places.clone().try_acquire_owned() {
        Ok(place) => Some((stream.into_std().ok()?, place)),
        Err(_) => {
            let problem = format_args!("{CLIENTS_MAX} clients are attached to this node already");
            let problem = Problem::new(Code::Busy, problem);
            // A socket takes its first line at once.
            let _ = stream.try_write(&written(&Line { id: None, said: Said::Problem(&problem) }));
            None
        }
    }
}

/// Starts the thread that serves clients, until nobody can send it more.
fn begin(desk: Arc<DoorState>) -> io::Result<mpsc::UnboundedSender<Admitted>> {
    // No more clients wait here than have places.
    let (sender, mut admitted) = mpsc::unbounded_channel::<Admitted>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            while let Some((stream, place)) = admitted.recv().await {
                while clients.try_join_next().is_some() {}
                match UnixStream::from_std(stream) {
                    Ok(stream) => _ = clients.spawn(Client::serve(desk.clone(), stream, place)),
                    Err(error) => debug!(%error, "a client is not served"),
                }
            }
        });
    };
    thread::Builder::new().name("kademlua-door".into()).spawn(serve)?;
    Ok(sender)
}

/// What all clients share.
struct DoorState {
    node: WeakHandle,
    greeting: Vec<u8>,
    /// Whether the node keeps its last packets in any case.
    keeps_packets: bool,
    /// The number of clients for which it keeps them.
    rings: AtomicUsize,
}

impl DoorState {
    async fn ask(&self, ask: Ask) -> Result<Answer, Problem> {
        self.node.upgrade()?.ask(ask).await
    }
}

/// One client.
struct Client {
    desk: Arc<DoorState>,
    out: Arc<Out>,
    under_way: HashMap<u64, UnderWay>,
    /// Whether the node keeps its last packets for it.
    has_ring: bool,
    /// The capture that it has begun.
    capture: Option<Bytes>,
}

/// A request that is under way. It ends when this is dropped.
struct UnderWay {
    task: JoinHandle<()>,
    /// Calls of an offer.
    calls: Option<Arc<CallQueue>>,
    ends: Ends,
}

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Itself,
    /// Only when the client leaves or cancels it.
    Never,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    async fn serve(desk: Arc<DoorState>, stream: UnixStream, _place: OwnedSemaphorePermit) {
        let (input, output) = stream.into_split();
        let out = Arc::new(Out { stream: output.into(), broken: Notify::new() });
        out.write(|| desk.greeting.clone()).await;
        let under_way = HashMap::new();
        let mut client = Client { desk, out, under_way, has_ring: false, capture: None };
        client.read(Lines::new(input)).await;
        client.leave().await;
    }

    /// Does what the client wants until it sends no more.
    async fn read(&mut self, mut lines: Lines) {
        let out = self.out.clone();
        loop {
            let line = tokio::select! {
                () = out.broken.notified() => return,
                line = lines.next() => line,
            };
            match line {
                Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => self.take(&line).await,
                Ok(None) => break,
                Err(problem) => return out.say(None, Said::Problem(&problem)).await,
            }
        }
        // It may have closed only one direction: what it has asked is still answered.
        self.under_way.retain(|_, request| request.ends == Ends::Itself);
        let answers = async {
            for request in self.under_way.values_mut() {
                let _ = (&mut request.task).await;
            }
        };
        tokio::select! {
            () = out.broken.notified() => {}
            () = answers => {}
        }
    }

    async fn take(&mut self, line: &[u8]) {
        let ClientRequest { id, what } = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => {
                let expected =
                    "expected an object with id and one of ask, watch, offer, return and cancel";
                let problem = Problem::new(Code::BadRequest, format_args!("{expected}: {error}"));
                return self.out.say(number_of(line), Said::Problem(&problem)).await;
            }
        };
        let refused = match what {
            What::Return(returned) => return self.on_returned(id, returned),
            What::Cancel {} => return self.cancel(id).await,
            What::Ask(ask) => self.ask(id, ask).await,
            What::Watch(filter) => {
                self.start(id, Ends::Never, |desk, out| watch(desk, out, id, filter))
            }
            What::Offer(name) => self.offer(id, name),
        };
        if let Err(problem) = refused {
            self.out.say(Some(id), Said::Problem(&problem)).await;
        }
    }

    /// Requests that take time go on beside the others; the rest are answered at once, one at a time.
    async fn ask(&mut self, id: u64, ask: Ask) -> Result<(), Problem> {
        self.check_number(id)?;
        if matches!(ask, Ask::Run(_)) {
            return self.start(id, Ends::Itself, |desk, out| async move {
                out.answer(id, desk.ask(ask).await).await;
            });
        }
        let (begins, ends) = match &ask {
            Ask::Capture(Capture::Begin { file, .. }) => (Some(file.clone()), false),
            Ask::Capture(Capture::End {}) => (None, true),
            _ => (None, false),
        };
        let is_for_packets = matches!(ask, Ask::Look(Look::Packets(_)));
        let answer = self.desk.ask(ask).await;
        if answer.is_ok() {
            if begins.is_some() || ends {
                self.capture = begins;
            }
            if is_for_packets && !std::mem::replace(&mut self.has_ring, true) {
                self.desk.rings.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.out.answer(id, answer).await;
        Ok(())
    }

    /// Offers an RPC for the client.
    fn offer(&mut self, id: u64, name: Bytes) -> Result<(), Problem> {
        let calls = Arc::new(CallQueue::default());
        let theirs = calls.clone();
        self.start(id, Ends::Never, |desk, out| offer(desk, out, id, name, theirs))?;
        if let Some(request) = self.under_way.get_mut(&id) {
            request.calls = Some(calls);
        }
        Ok(())
    }

    fn start<Running: Future<Output = ()> + Send + 'static>(
        &mut self,
        id: u64,
        ends: Ends,
        run: impl FnOnce(Arc<DoorState>, Arc<Out>) -> Running,
    ) -> Result<(), Problem> {
        self.check_number(id)?;
        let task = tokio::spawn(run(self.desk.clone(), self.out.clone()));
        self.under_way.insert(id, UnderWay { task, calls: None, ends });
        Ok(())
    }

    /// Whether there can be a request with that number.
    fn check_number(&mut self, id: u64) -> Result<(), Problem> {
        self.under_way.retain(|_, request| !request.task.is_finished());
        if self.under_way.contains_key(&id) {
            let problem = format_args!("request {id} is under way already");
            return Err(Problem::new(Code::BadRequest, problem));
        }
        if self.under_way.len() >= UNDER_WAY_MAX {
            let problem = format_args!("{UNDER_WAY_MAX} requests are under way already");
            return Err(Problem::new(Code::Busy, problem));
        }
        Ok(())
    }

    fn on_returned(&mut self, id: u64, CallResult { call, values }: CallResult) {
        let calls = self.under_way.get(&id).and_then(|request| request.calls.as_ref());
        // A call that the node has given up is gone.
        if let Some(call) = calls.and_then(|calls| calls.take(call)) {
            match values {
                Some(values) => call.answer(values),
                None => call.fail(),
            }
        }
    }

    async fn cancel(&mut self, id: u64) {
        if let Some(mut request) = self.under_way.remove(&id) {
            request.task.abort();
            // What it held is released before the next request, so that an RPC can be offered anew.
            let _ = (&mut request.task).await;
        }
    }

    /// Puts the node back as it was before this client.
    async fn leave(&mut self) {
        self.under_way.clear();
        let Ok(node) = self.desk.node.upgrade() else { return };
        let is_last = self.has_ring && self.desk.rings.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last && !self.desk.keeps_packets {
            let _ = node.forget_packets().await;
        }
        if let (Some(file), Ok(view)) = (&self.capture, node.capture_view().await)
            && let Some(captured) = view.captured
            && captured.file.as_os_str().as_encoded_bytes() == file.0
        {
            // By now another capture may be running, which somebody else has begun.
            let _ = node.end_capture().await;
        }
    }
}

/// The number of a request of which nothing else can be read.
fn number_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        id: u64,
    }
    serde_json::from_slice(line).ok().map(|Numbered { id }| id)
}

/// Tells the client about the packets and news that a filter takes.
async fn watch(desk: Arc<DoorState>, out: Arc<Out>, id: u64, filter: Filter) {
    let begun = async { Ok::<_, Problem>(desk.node.upgrade()?.readings(filter).await?) };
    let mut readings = match begun.await {
        Ok(readings) => readings,
        Err(problem) => return out.say(Some(id), Said::Problem(&problem)).await,
    };
    out.say(Some(id), Said::Answer(&Answer::Done(()))).await;
    while let Some(reading) = readings.next().await {
        out.say(Some(id), Said::Event(&reading)).await;
    }
    out.say(Some(id), Said::Problem(&Stopped.into())).await;
}

/// Hands on the calls of an RPC.
async fn offer(desk: Arc<DoorState>, out: Arc<Out>, id: u64, name: Bytes, calls: Arc<CallQueue>) {
    let begun = async { Ok::<_, Problem>(desk.node.upgrade()?.register_new(&name.0).await?) };
    let mut coming = match begun.await {
        Ok(coming) => coming,
        Err(problem) => return out.say(Some(id), Said::Problem(&problem)).await,
    };
    out.say(Some(id), Said::Answer(&Answer::Done(()))).await;
    while let Some(call) = coming.recv().await {
        let (from, args) = (call.from, call.args.clone());
        let call = OfferedCall { call: calls.put(call), from, args };
        out.say(Some(id), Said::Call(call)).await;
    }
    let problem = Problem::new(Code::Gone, "the offer was taken over, or the node has stopped");
    out.say(Some(id), Said::Problem(&problem)).await;
}

/// Calls that wait for the client, the oldest first.
#[derive(Default)]
struct CallQueue(Mutex<(u64, VecDeque<(u64, IncomingCall)>)>);

impl CallQueue {
    /// The number by which it is answered.
    fn put(&self, call: IncomingCall) -> u64 {
        let (last, waiting) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        waiting.push_back((*last, call));
        // The oldest fails as it is dropped.
        waiting.drain(..waiting.len().saturating_sub(CALLS_MAX));
        *last
    }

    fn take(&self, number: u64) -> Option<IncomingCall> {
        let (_, waiting) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|(its, _)| *its == number)?;
        waiting.remove(at).map(|(_, call)| call)
    }
}

/// The way to a client.
struct Out {
    stream: tokio::sync::Mutex<OwnedWriteHalf>,
    /// Told once the client cannot be written to any more.
    broken: Notify,
}

impl Out {
    async fn answer(&self, id: u64, answer: Result<Answer, Problem>) {
        match &answer {
            Ok(answer) => self.say(Some(id), Said::Answer(answer)).await,
            Err(problem) => self.say(Some(id), Said::Problem(problem)).await,
        }
    }

    async fn say(&self, id: Option<u64>, said: Said<'_>) {
        let make = move || {
            let line = written(&Line { id, said });
            if line.len() <= SAID_MAX {
                return line;
            }
            let problem = format_args!("the answer has more than {SAID_MAX} bytes");
            let problem = Problem::new(Code::Refused, problem);
            written(&Line { id, said: Said::Problem(&problem) })
        };
        self.write(make).await;
    }

    /// Writes a line, which is made once it is its turn.
    async fn write(&self, make: impl FnOnce() -> Vec<u8>) {
        let stream = self.stream.lock().await;
        let line = make();
        let mut left = &line[..];
        while !left.is_empty() {
            match timeout(READ_WITHIN, stream.writable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return self.broken.notify_one(),
            }
            match stream.try_write(left) {
                Ok(taken) => left = &left[taken..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.broken.notify_one(),
            }
        }
    }
}

/// The lines of a client.
struct Lines {
    stream: OwnedReadHalf,
    /// Bytes that have come and were not handed on.
    buffer: Vec<u8>,
    /// How many of these were searched and contain no end of a line.
    searched: usize,
}

impl Lines {
    fn new(stream: OwnedReadHalf) -> Lines {
        Lines { stream, buffer: Vec::new(), searched: 0 }
    }

    /// The next line; `None` when there are no more. Dropping the future early loses nothing.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.searched = self.buffer.len();
            if self.searched > REQUEST_MAX {
                let problem = format_args!("a line has more than {REQUEST_MAX} bytes");
                return Err(Problem::new(Code::BadRequest, problem));
            }
            let mut chunk = [0; 4096];
            let taken = match self.stream.readable().await {
                Ok(()) => self.stream.try_read(&mut chunk),
                Err(error) => Err(error),
            };
            match taken {
                Ok(0) => return Ok(None),
                Ok(taken) => self.buffer.extend(&chunk[..taken]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(None),
            }
        }
    }
}
