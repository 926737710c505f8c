//! The thread that writes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tracing::{info, warn};

use super::file::{Failure, File};
use super::{Batch, Status};
use crate::id::Id;

/// What writer and node share.
struct Shared {
    status: Status,
    /// Keys of a batch that was not written.
    failed: Vec<Id>,
    /// A batch is being written.
    is_busy: bool,
}

/// Writes batches on a thread of its own.
pub(crate) struct Writer {
    batches: Option<SyncSender<Batch>>,
    thread: Option<thread::JoinHandle<()>>,
    shared: Arc<Mutex<Shared>>,
}

/// Looks at a [`Status`] from elsewhere.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Mutex<Shared>>);

impl Watch {
    pub(crate) fn status(&self) -> Status {
        lock(&self.0).status.clone()
    }
}

impl Writer {
    /// Starts the thread; `problem` is why nothing can be written, to begin with.
    pub(super) fn start(mut file: File, problem: Option<String>) -> io::Result<Writer> {
        let folder = file.folder().to_owned();
        if let Some(problem) = &problem {
            complain(&folder.display().to_string(), problem);
        }
        let status = Status { folder, written: None, problem };
        let shared = Arc::new(Mutex::new(Shared { status, failed: Vec::new(), is_busy: false }));
        // Takes one only while the thread waits for it.
        let (batches, received) = sync_channel::<Batch>(0);
        let told = shared.clone();
        let run = move || {
            while let Ok(batch) = received.recv() {
                // A library that trusts what it wrote may stumble over what somebody else did.
                let written = catch_unwind(AssertUnwindSafe(|| file.write(&batch)));
                tell(&told, &batch, written.unwrap_or(Err(Failure::Panic)));
            }
        };
        let thread = thread::Builder::new().name("kademlua-state".into()).spawn(run)?;
        Ok(Writer { batches: Some(batches), thread: Some(thread), shared })
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// Keys whose values were not written, to be given again.
    pub(crate) fn take_failed(&self) -> Vec<Id> {
        std::mem::take(&mut lock(&self.shared).failed)
    }

    /// Whether the last attempt to write failed.
    pub(crate) fn is_failing(&self) -> bool {
        lock(&self.shared).status.problem.is_some()
    }

    /// Whether it would take a batch.
    pub(crate) fn is_idle(&self) -> bool {
        !lock(&self.shared).is_busy
    }

    /// Hands over a batch unless the one before is still being written; then it comes back.
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

    /// Writes a last batch, and waits until it is written.
    pub(crate) fn finish(mut self, batch: Batch) {
        if let Some(batches) = self.batches.take() {
            let _ = batches.send(batch);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Notes how it went.
fn tell(shared: &Mutex<Shared>, batch: &Batch, result: Result<(), Failure>) {
    let mut shared = lock(shared);
    shared.is_busy = false;
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
            shared.failed.extend(batch.values.iter().map(|(key, _)| *key));
        }
    }
}

fn complain(folder: &str, problem: &str) {
    warn!(folder, problem, "the state cannot be written; values are in memory alone");
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
