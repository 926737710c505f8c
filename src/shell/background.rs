//! The list of tasks that run beside the chunk that the user waits for, by number.
//!
//! What a task does is the business of [`tasks`](super::tasks).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use tokio::task::AbortHandle;

/// Tasks at once; a program that starts ever more ends here, before it runs out of memory.
pub(crate) const TASKS_MAX: usize = 10_000;

/// The tasks that run.
#[derive(Default)]
pub(crate) struct Background {
    last: Cell<u64>,
    running: Rc<RefCell<BTreeMap<u64, Task>>>,
    /// The task whose turn it is.
    current: Cell<Option<u64>>,
    failures: Cell<u64>,
}

/// A task that runs.
pub(crate) struct Task {
    abort: AbortHandle,
    kind: &'static str,
    /// What it waits for itself, while no function that it called waits.
    idle: &'static str,
    began: Instant,
    /// The name of the RPC that it answers.
    answers: Option<Vec<u8>>,
    /// The functions in which it waits, the innermost last.
    waits_in: Vec<&'static str>,
}

/// What is told about a task.
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) kind: &'static str,
    pub(crate) began: Instant,
    pub(crate) waits_for: String,
}

impl Task {
    /// A task that begins now; it may answer the RPC `answers`.
    pub(crate) fn new(
        abort: AbortHandle,
        kind: &'static str,
        idle: &'static str,
        answers: Option<Vec<u8>>,
    ) -> Task {
        Task { abort, kind, idle, began: Instant::now(), answers, waits_in: Vec::new() }
    }

    fn waits_for(&self) -> String {
        match (self.waits_in.last(), &self.answers) {
            (Some(function), _) => (*function).to_owned(),
            (None, Some(name)) => format!("{} of {}", self.idle, String::from_utf8_lossy(name)),
            (None, None) => self.idle.to_owned(),
        }
    }
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

    /// A task begins.
    pub(crate) fn begin(&self, number: u64, task: Task) {
        self.running.borrow_mut().insert(number, task);
    }

    /// Runs a task, so that it is known in which function it waits.
    pub(crate) async fn within<T>(&self, number: u64, running: impl Future<Output = T>) -> T {
        let mut running = pin!(running);
        poll_fn(|context| {
            let before = self.current.replace(Some(number));
            let polled = running.as_mut().poll(context);
            self.current.set(before);
            polled
        })
        .await
    }

    /// Notes that the current task, if there is one, waits in that function until the returned value is
    /// dropped.
    pub(crate) fn waiting_for(&self, function: &'static str) -> Option<WaitingTask> {
        let number = self.current.get()?;
        self.running.borrow_mut().get_mut(&number)?.waits_in.push(function);
        Some(WaitingTask { running: self.running.clone(), number })
    }

    /// A task has failed.
    pub(crate) fn count_failure(&self) {
        self.failures.set(self.failures.get() + 1);
    }

    /// How many have failed since this was asked last.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.take()
    }

    /// All that run.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let running = self.running.borrow();
        let listed = |(&number, task): (&u64, &Task)| Listed {
            number,
            kind: task.kind,
            began: task.began,
            waits_for: task.waits_for(),
        };
        running.iter().map(listed).collect()
    }

    /// A task has ended by itself.
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

/// A task waits in a function.
pub(crate) struct WaitingTask {
    running: Rc<RefCell<BTreeMap<u64, Task>>>,
    number: u64,
}

impl Drop for WaitingTask {
    fn drop(&mut self) {
        if let Some(task) = self.running.borrow_mut().get_mut(&self.number) {
            task.waits_in.pop();
        }
    }
}
