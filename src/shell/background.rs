//! The list of tasks that run beside the chunk that the user waits for, by number.
//!
//! What a task does is the business of [`tasks`](super::tasks).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use tokio::task::AbortHandle;

/// Tasks at once; a program that starts ever more ends here and not in want of memory.
pub(crate) const TASKS_MAX: usize = 10_000;

/// The tasks that run.
#[derive(Default)]
pub(crate) struct Background {
    last: Cell<u64>,
    running: RefCell<BTreeMap<u64, Task>>,
}

struct Task {
    abort: AbortHandle,
    /// The name of the RPC that it answers.
    answers: Option<Vec<u8>>,
}

impl Background {
    /// A number for the next task, unless there are [`TASKS_MAX`] already.
    pub(crate) fn next(&self) -> Option<u64> {
        if self.running.borrow().len() >= TASKS_MAX {
            return None;
        }
        self.last.set(self.last.get() + 1);
        Some(self.last.get())
    }

    /// A task begins; it may answer the RPC of that name.
    pub(crate) fn begin(&self, number: u64, abort: AbortHandle, answers: Option<Vec<u8>>) {
        self.running.borrow_mut().insert(number, Task { abort, answers });
    }

    /// A task came to its end by itself.
    pub(crate) fn forget(&self, number: u64) {
        self.running.borrow_mut().remove(&number);
    }

    /// Whether a task runs.
    pub(crate) fn runs(&self, number: u64) -> bool {
        self.running.borrow().contains_key(&number)
    }

    /// Ends a task. Returns whether it ran.
    pub(crate) fn end(&self, number: u64) -> bool {
        let task = self.running.borrow_mut().remove(&number);
        task.inspect(|task| task.abort.abort()).is_some()
    }

    /// Ends the task that answers an RPC. Returns whether there was one.
    pub(crate) fn end_rpc(&self, name: &[u8]) -> bool {
        let answers = |task: &Task| task.answers.as_deref() == Some(name);
        let number =
            self.running.borrow().iter().find(|(_, task)| answers(task)).map(|(&number, _)| number);
        number.is_some_and(|number| self.end(number))
    }
}
