//! The thread that writes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::appender::Failure;
use super::file::File;
use super::{Batch, StateStatus};
use crate::id::Id;

/// How often to look whether something has to be brought to the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The rows and contacts that were not written, to be given again.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    /// Rows with their keys.
    pub(crate) rows: Vec<(u64, Id)>,
    pub(crate) contacts: bool,
}

impl Unwritten {
    pub(crate) fn add(&mut self, batch: Batch) {
        self.contacts |= batch.contacts.is_some();
        self.rows.extend(batch.rows.into_iter().map(|(row, key, _)| (row, key)));
    }
}

/// What the writer and the node share.
struct WriterState {
    status: StateStatus,
    unwritten: Unwritten,
    /// Whether a batch is being written.
    is_busy: bool,
}

/// Writes batches on a thread of its own.
pub(crate) struct StateWriter {
    batches: Option<SyncSender<Batch>>,
    thread: Option<thread::JoinHandle<()>>,
    shared: Arc<Mutex<WriterState>>,
}

/// Looks at a [`StateStatus`] from elsewhere.
#[derive(Clone)]
pub(crate) struct StatusWatch(Arc<Mutex<WriterState>>);

impl StatusWatch {
    pub(crate) fn status(&self) -> StateStatus {
        lock(&self.0).status.clone()
    }
}

impl StateWriter {
    /// Starts the thread; `problem` is why nothing can be written, to begin with.
    pub(super) fn start(mut file: File, problem: Option<String>) -> io::Result<StateWriter> {
        let folder = file.folder().to_owned();
        if let Some(problem) = &problem {
            complain(&folder.display().to_string(), problem);
        }
        let status = StateStatus { folder, written: None, bytes: 0, problem };
        let shared = Arc::new(Mutex::new(WriterState {
            status,
            unwritten: Unwritten::default(),
            is_busy: false,
        }));
        // A channel that takes a batch only while the thread waits for one.
        let (batches, received) = sync_channel::<Batch>(0);
        let told = shared.clone();
        let run = move || write_all(&mut file, &received, &told);
        let thread = thread::Builder::new().name("kademlua-state".into()).spawn(run)?;
        Ok(StateWriter { batches: Some(batches), thread: Some(thread), shared })
    }

    pub(crate) fn watch(&self) -> StatusWatch {
        StatusWatch(self.shared.clone())
    }

    pub(crate) fn take_unwritten(&self) -> Unwritten {
        std::mem::take(&mut lock(&self.shared).unwritten)
    }

    /// Whether the last attempt to write failed.
    pub(crate) fn is_failing(&self) -> bool {
        lock(&self.shared).status.problem.is_some()
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.shared).status.bytes
    }

    /// Whether it would take a batch.
    pub(crate) fn is_idle(&self) -> bool {
        !lock(&self.shared).is_busy
    }

    /// Hands over a batch. If the one before is still being written, the batch comes back.
    pub(crate) fn offer(&self, batch: Batch) -> Option<Batch> {
        let mut shared = lock(&self.shared);
        match self.batches.as_ref()?.try_send(batch) {
            Ok(()) => {
                shared.is_busy = true;
                None
            }
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => Some(batch),
        }
    }

    /// Writes a last batch, and waits until all is on the disk.
    pub(crate) fn finish(mut self, batch: Batch) {
        if let Some(batches) = self.batches.take() {
            let _ = batches.send(batch);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The body of the thread.
fn write_all(file: &mut File, batches: &Receiver<Batch>, shared: &Mutex<WriterState>) {
    let mut unsynced = false;
    loop {
        // Waits for the next batch, but brings earlier ones to the disk in time.
        let received = match unsynced {
            true => batches.recv_timeout(LOOK_EVERY),
            false => batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let batch = match received {
            Ok(batch) => Some(batch),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let act = || match &batch {
            Some(batch) => file.write(batch).and_then(|()| file.sync(false)),
            None => file.sync(false),
        };
        // A node goes on serving, whatever becomes of its state.
        let done = catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(Failure::Panic));
        unsynced = !file.is_synced();
        if batch.is_some() || done.is_err() {
            tell(shared, batch, file.written(), done);
        }
    }
    // If the disk fails to take something, the second attempt writes it to another file.
    if let Err(error) = file.sync(true).or_else(|_| file.sync(true)) {
        complain(&lock(shared).status.folder.display().to_string(), &error.to_string());
    }
}

/// Notes how it went.
fn tell(
    shared: &Mutex<WriterState>,
    batch: Option<Batch>,
    bytes: u64,
    result: Result<(), Failure>,
) {
    let mut shared = lock(shared);
    shared.is_busy &= batch.is_none();
    shared.status.bytes = bytes;
    let folder = shared.status.folder.display().to_string();
    match result {
        Ok(()) => {
            if shared.status.problem.take().is_some() {
                info!(folder, "the state is written again");
            }
            shared.status.written = Some(Instant::now());
        }
        Err(error) => {
            let problem = error.to_string();
            if shared.status.problem.is_none() {
                complain(&folder, &problem);
            }
            shared.status.problem = Some(problem);
            batch.into_iter().for_each(|batch| shared.unwritten.add(batch));
        }
    }
}

fn complain(folder: &str, problem: &str) {
    warn!(folder, problem, "the state cannot be written; values are in memory alone");
}

fn lock(shared: &Mutex<WriterState>) -> MutexGuard<'_, WriterState> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
