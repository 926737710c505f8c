//! Answers an [`Ask`] through the handle of a node.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::control::{
    Answer, Ask, CacheView, Capture, CaptureView, Code, EstimateView, FastPathView, Filter, Look,
    NodeView, Problem, Reader, Reading, SettingView, StateView,
};
use crate::state;
use crate::xdp;

use super::capture::{CaptureError, Existing};
use super::door::Watch;
use super::handle::{Handle, OperationError, Stopped};
use super::observer::{Losses, Tap};

impl Handle {
    /// Asks anything that can be asked of a node.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Problem> {
        ask.check()?;
        Ok(match ask {
            Ask::Run(command) => {
                let reply = self.run(command.clone()).await;
                let reply = reply.map_err(|error| command.of_peer(error.into()))?;
                return command.answer(self.contact(), reply);
            }
            Ask::Look(look) => self.view_of(look).await?,
            Ask::Capture(Capture::Begin { file, replace }) => {
                let existing = if replace { Existing::Replace } else { Existing::Keep };
                self.capture(Path::new(OsStr::from_bytes(&file.0)), existing).await?;
                Answer::Capture(self.capture_view().await?)
            }
            Ask::Capture(Capture::End {}) => {
                let captured = self.end_capture().await?;
                Answer::Capture(CaptureView { running: false, captured })
            }
            Ask::Capture(Capture::Status {}) => Answer::Capture(self.capture_view().await?),
            Ask::ForgetPackets {} => Answer::Done(self.forget_packets().await?),
        })
    }

    async fn view_of(&self, look: Look) -> Result<Answer, Problem> {
        Ok(match look {
            Look::Node => {
                let snapshot = self.snapshot().await?;
                let state = self.state().map(state_view);
                Answer::Node(Box::new(NodeView::of(self.contact(), snapshot, state)))
            }
            Look::Contacts => Answer::Contacts(self.routing().await?.into_contacts()),
            Look::Routing => Answer::Routing(self.routing().await?),
            Look::Lookups => Answer::Lookups(self.lookups().await?.into_views(self.contact())),
            Look::Estimate => Answer::Estimate(self.view::<EstimateView>().await?),
            Look::Kept { key } => Answer::Kept(self.kept(key).await?),
            Look::Settings => Answer::Settings(SettingView::all(self.config())),
            Look::Xdp => Answer::Xdp(self.fast_path_view()?),
            Look::Packets(filter) => Answer::Packets(filter.of(&self.packets().await?)),
        })
    }

    fn fast_path_view(&self) -> Result<FastPathView, Problem> {
        let reason = match self.fast_path().map(xdp::status) {
            None => "no fast path is looked for: this node was started without --xdp".to_owned(),
            Some(Ok(status)) if status.is_gone => {
                format!("{}, to which it was attached, is gone; attach it anew", status.interface)
            }
            Some(Ok(status)) => return Ok(attached(&status)),
            Some(Err(error @ xdp::Error::NotAttached(_))) => error.to_string(),
            Some(Err(error)) => return Err(Problem::new(Code::System, error)),
        };
        Ok(FastPathView { reason: Some(reason), ..FastPathView::default() })
    }

    /// All packets and news from now on that a filter takes.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn readings(&self, filter: Filter) -> Result<Readings, Stopped> {
        let (tap, reader) = (self.tap().await?, Reader::default());
        Ok(Readings(WatchedNode::Here { tap, reader, filter: filter.into() }))
    }
}

fn state_view(status: state::StateStatus) -> StateView {
    StateView {
        folder: status.folder.display().to_string(),
        written: status.written.map(|at| at.elapsed().into()),
        problem: status.problem,
    }
}

fn attached(status: &xdp::Status) -> FastPathView {
    let ([keys, bytes], (hits, misses)) = (status.cached, status.cache_tally());
    let mut view = FastPathView {
        attached: true,
        reason: None,
        interface: Some(status.interface.clone()),
        mode: Some(status.mode.name().to_owned()),
        answering: Some(status.is_answering()),
        heartbeat: status.heartbeat.map(|age| age.as_secs_f64()),
        contacts: Some(status.contacts.iter().sum()),
        cached: Some(CacheView { keys, bytes, hits, misses }),
        share: status.share(),
        ns: status.run.map(|run| run.as_nanos() as u64),
        ..FastPathView::default()
    };
    for (what, which, count) in status.tallies() {
        view.tallies.entry(what.to_owned()).or_default().insert(which.to_owned(), count);
    }
    view
}

/// Packets and news as they come, already read. Drop it to end it.
#[derive(Debug)]
pub struct Readings(WatchedNode);

/// The node that is watched.
#[derive(Debug)]
enum WatchedNode {
    /// A node in this process.
    Here { tap: Tap, reader: Reader, filter: Box<Filter> },
    /// A node that this process is attached to.
    There(Watch),
}

impl From<Watch> for Readings {
    fn from(watch: Watch) -> Readings {
        Readings(WatchedNode::There(watch))
    }
}

impl Readings {
    /// The next that the filter takes; `None` once the node has ended.
    pub async fn next(&mut self) -> Option<Reading> {
        let losses = self.losses();
        let (tap, reader, filter) = match &mut self.0 {
            WatchedNode::Here { tap, reader, filter } => (tap, reader, filter),
            WatchedNode::There(watch) => return watch.next().await,
        };
        loop {
            let sight = tap.next().await?;
            let mut reading = reader.read_sight(&sight);
            if filter.takes(&reading) {
                reading.lost = Some(losses.count());
                return Some(reading);
            }
        }
    }

    /// The counter of losses.
    pub fn losses(&self) -> Losses {
        match &self.0 {
            WatchedNode::Here { tap, .. } => tap.losses(),
            WatchedNode::There(watch) => watch.losses(),
        }
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Problem {
        Problem::new(Code::Gone, stopped)
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Problem {
        match error {
            OperationError::Stopped(stopped) => stopped.into(),
            OperationError::Call(error) => error.into(),
            OperationError::Store(error) => Problem::new(Code::Refused, error),
            error @ (OperationError::Register(_) | OperationError::Taken) => {
                Problem::new(Code::Refused, error)
            }
        }
    }
}

impl From<CaptureError> for Problem {
    fn from(error: CaptureError) -> Problem {
        let code = match &error {
            CaptureError::Stopped(_) => Code::Gone,
            CaptureError::Running(_) => Code::Running,
            CaptureError::Exists(_) => Code::Exists,
            CaptureError::File { reason, .. } if reason.kind() == io::ErrorKind::NotFound => {
                Code::BadRequest
            }
            CaptureError::NoCapture(_) | CaptureError::File { .. } | CaptureError::Write { .. } => {
                Code::System
            }
        };
        Problem::new(code, error)
    }
}
