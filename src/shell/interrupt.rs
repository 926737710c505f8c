//! Ctrl-C for Lua programs: a flag, and a hook that looks at it every few hundred instructions.
//!
//! The hook suspends the coroutine in which it strikes, and the driver of that coroutine drops it;
//! an error alone would end in the next `pcall`. Where a coroutine cannot be suspended (in a
//! comparator of `table.sort`, say) the hook raises an error, which the `pcall` of the environment
//! passes on (see `lua/sandbox.lua`).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mlua::{HookTriggers, Lua, VmState};
use tokio::sync::{Semaphore, watch};

/// Instructions between two looks at the flag: some 10 µs of plain Lua, and few enough that a
/// hundred slow library calls in a row stay within what a person takes for "at once".
const LOOK_EVERY: u32 = 200;

/// How long a coroutine in the background may go on after Ctrl-C, which was not meant for it unless
/// it keeps all others from running.
const BACKGROUND_GRACE: Duration = Duration::from_millis(20);

/// How long a function that answers a peer may take: a moment later the node itself says that it
/// failed.
pub(crate) const ANSWER_MAX: Duration = Duration::from_millis(1_300);

/// How long a function that answers a peer may compute at first before others have their turn: many calls may come
/// at once. A shorter one, as most are, runs from wait to wait without another in between.
const FIRST_SLICE: Duration = Duration::from_millis(1);

/// How long it may compute at a stretch afterwards.
const SLICE: Duration = Duration::from_millis(4);

/// The pause after a slice: the shortest that the runtime's clock knows. Only when no coroutine is ready does the
/// runtime look for messages from other threads, such as the next call.
const PAUSE: Duration = Duration::from_millis(1);

/// Shared between the thread that sees Ctrl-C and the one that runs Lua.
#[derive(Debug)]
pub(crate) struct Interrupt {
    asked: watch::Sender<Option<Instant>>,
    /// The last request, even if it has been heeded: anything that began before it and goes on was
    /// meant too.
    last: watch::Sender<Option<Instant>>,
}

impl Interrupt {
    pub(crate) fn new() -> Arc<Interrupt> {
        Arc::new(Interrupt { asked: watch::Sender::new(None), last: watch::Sender::new(None) })
    }

    /// Asks the program that runs now to end.
    pub(crate) fn request(&self) {
        let now = Some(Instant::now());
        self.last.send_replace(now);
        self.asked.send_replace(now);
    }

    /// Forgets an earlier request.
    pub(crate) fn clear(&self) {
        self.asked.send_replace(None);
    }

    /// Waits for a request.
    pub(crate) async fn requested(&self) {
        // The sender is `self`: it cannot be gone.
        let _ = self.asked.subscribe().wait_for(Option::is_some).await;
    }

    fn is_asked(&self) -> bool {
        self.asked.borrow().is_some()
    }

    /// Whether a coroutine that has run since then without a pause was meant.
    fn meant(&self, since: Instant) -> bool {
        self.last.borrow().is_some_and(|at| at >= since && at.elapsed() >= BACKGROUND_GRACE)
    }

    fn came_after(&self, began: Instant) -> bool {
        self.last.borrow().is_some_and(|at| at >= began)
    }
}

/// Whose turn it is on the Lua thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// Nobody's: what the shell itself does in Lua, which is short.
    Nobody,
    /// The chunk that the user waits for.
    Foreground,
    /// A coroutine of `spawn`, `every` or `after`, running since then without a pause.
    Background(Instant),
    /// A function that answers a peer.
    Answer(AnswerTurn),
}

/// How far a function that answers a peer is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerTurn {
    /// When it was called.
    called: Instant,
    /// The time since which it runs without a pause.
    since: Instant,
    /// Whether it has used up a slice before.
    is_slow: bool,
}

impl AnswerTurn {
    fn is_overdue(&self) -> bool {
        self.called.elapsed() >= ANSWER_MAX
    }
}

/// The program was ended by Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Drives coroutines of one Lua state so that each of them can be interrupted.
#[derive(Clone)]
pub(crate) struct Guard {
    interrupt: Arc<Interrupt>,
    turn: Rc<Cell<Turn>>,
    /// Whether a slice was over in the stretch that ran last.
    sliced: Rc<Cell<bool>>,
    /// Of the functions that answer peers and have used up a slice, one at a time takes this: however many there
    /// are, everything else waits for only one slice.
    slow_lane: Rc<Semaphore>,
}

impl Guard {
    /// Sets the hook of a Lua state.
    pub(crate) fn install(lua: &Lua, interrupt: Arc<Interrupt>) -> mlua::Result<Guard> {
        let guard = Guard {
            interrupt,
            turn: Rc::new(Cell::new(Turn::Nobody)),
            sliced: Rc::default(),
            slow_lane: Rc::new(Semaphore::new(1)),
        };
        let (hook_guard, raise) = (guard.clone(), Cell::new(false));
        let triggers = HookTriggers::new().every_nth_instruction(LOOK_EVERY);
        lua.set_global_hook(triggers, move |_, _| {
            if !hook_guard.strikes() {
                return Ok(hook_guard.slice());
            }
            // If it cannot be suspended the coroutine goes on, and meets the error next time.
            match raise.replace(!raise.get()) {
                true => Err(mlua::Error::runtime("interrupted")),
                false => Ok(VmState::Yield),
            }
        })?;
        Ok(guard)
    }

    /// Whether the coroutine that runs now is to end.
    pub(crate) fn strikes(&self) -> bool {
        match self.turn.get() {
            Turn::Nobody => false,
            Turn::Foreground => self.interrupt.is_asked(),
            Turn::Background(since) => self.interrupt.meant(since),
            // Peers must not be able to occupy the shell, and nobody may sit here to press Ctrl-C.
            Turn::Answer(answer) => {
                answer.is_overdue()
                    || self.interrupt.meant(answer.since)
                    || answer.is_slow && self.interrupt.came_after(answer.called)
            }
        }
    }

    /// Suspends the coroutine that runs now if its slice is over. If it cannot be suspended it goes on.
    fn slice(&self) -> VmState {
        let Turn::Answer(AnswerTurn { since, is_slow, .. }) = self.turn.get() else {
            return VmState::Continue;
        };
        let is_over = since.elapsed() >= if is_slow { SLICE } else { FIRST_SLICE };
        if !is_over {
            return VmState::Continue;
        }
        self.sliced.set(true);
        VmState::Yield
    }

    /// Ends what the user waits for, as Ctrl-C does.
    pub(crate) fn end(&self) {
        self.interrupt.request();
    }

    /// Runs the user's chunk; Ctrl-C ends it, wherever it waits or loops.
    pub(crate) async fn foreground<T>(
        &self,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        self.interrupt.clear();
        let outcome = tokio::select! {
            outcome = self.drive(|| Turn::Foreground, program) => outcome,
            () = self.interrupt.requested() => Err(Interrupted),
        };
        self.interrupt.clear();
        outcome
    }

    /// Runs a coroutine in the background; Ctrl-C ends it if it does not let others run.
    pub(crate) async fn background<T>(
        &self,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        self.drive(|| Turn::Background(Instant::now()), program).await
    }

    /// Runs a function that answers a call from `called`. It ends like those in the background, or
    /// [`ANSWER_MAX`] after the call. When it computes for longer than a slice it takes turns with all others.
    pub(crate) async fn answer<T>(
        &self,
        called: Instant,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        let mut program = Some(Box::pin(program));
        let mut deadline = pin!(tokio::time::sleep_until((called + ANSWER_MAX).into()));
        let (mut is_slow, mut lane) = (false, None);
        loop {
            // One stretch: to the end of the function, or of a slice.
            let stretch = poll_fn(|context| {
                // Polled only to be woken: `strikes` knows the time.
                let _ = deadline.as_mut().poll(context);
                self.sliced.set(false);
                let turn = Turn::Answer(AnswerTurn { called, since: Instant::now(), is_slow });
                match self.step(turn, &mut program, context) {
                    Poll::Pending if self.sliced.get() => Poll::Ready(None),
                    Poll::Pending => {
                        // While it waits it is in nobody's way.
                        lane = None;
                        Poll::Pending
                    }
                    Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                }
            });
            if let Some(outcome) = stretch.await {
                return outcome;
            }
            is_slow = true;
            tokio::time::sleep(PAUSE).await;
            drop(lane.take());
            lane = Some(self.slow_lane.acquire().await.expect("it is never closed"));
        }
    }

    async fn drive<T>(
        &self,
        turn: impl Fn() -> Turn,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        let mut program = Some(Box::pin(program));
        poll_fn(|context| self.step(turn(), &mut program, context)).await
    }

    /// Polls a program in its turn, unless it has ended.
    fn step<T>(
        &self,
        turn: Turn,
        program: &mut Option<Pin<Box<impl Future<Output = T>>>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<T, Interrupted>> {
        let Some(running) = program.as_mut() else { return Poll::Ready(Err(Interrupted)) };
        let _turn = TakenTurn::new(&self.turn, turn);
        let polled = running.as_mut().poll(context);
        if !self.strikes() {
            return polled.map(Ok);
        }
        // Dropped here, while the hook still strikes: `<close>` variables may loop too.
        *program = None;
        Poll::Ready(Err(Interrupted))
    }
}

/// Puts the former turn back when it goes.
struct TakenTurn<'a> {
    turn: &'a Cell<Turn>,
    before: Turn,
}

impl<'a> TakenTurn<'a> {
    fn new(turn: &'a Cell<Turn>, now: Turn) -> TakenTurn<'a> {
        TakenTurn { turn, before: turn.replace(now) }
    }
}

impl Drop for TakenTurn<'_> {
    fn drop(&mut self) {
        self.turn.set(self.before);
    }
}
