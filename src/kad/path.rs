//! One path of a lookup: the contacts it has heard of, the nearest first, and which of them to ask
//! next.
//!
//! A path learns only from the answers to its own queries. What it must know about the other paths
//! of its lookup, namely the nodes that they have asked already, is handed in.

use std::net::SocketAddr;

use crate::address::Scope;
use crate::id::{Distance, Id};
use crate::kad::crowd::Crowd;
use crate::kad::lookup::{End, MAX_QUERIES};
use crate::message::Contact;

/// How many contacts a path keeps in mind, the nearest of those it heard of: no fewer than may be
/// asked, so that no contact that was asked is ever forgotten.
const MAX_CANDIDATES: usize = MAX_QUERIES;

/// How many of the nodes that named a contact are remembered: one of them may have been asked for too
/// many already.
const MAX_NAMERS: usize = 4;

/// The bounds of a path.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// How many of the nearest contacts are asked.
    pub(super) k: usize,
    /// Queries at once.
    pub(super) alpha: usize,
    /// Queries in all.
    pub(super) queries: usize,
    /// The path ends once this many nodes have returned values.
    pub(super) with_values: usize,
    /// Contacts of one subnet among the nearest.
    pub(super) per_subnet: usize,
}

pub(super) struct Path {
    limits: Bounds,
    candidates: Vec<Candidate>,
    queries: usize,
    /// Nodes that returned values.
    with_values: usize,
    /// Queries that hold up others: sent, and neither answered, failed nor overdue.
    holding: usize,
    /// The latest round that had an answer.
    answered_round: u32,
}

pub(super) struct Candidate {
    distance: Distance,
    pub(super) contact: Contact,
    pub(super) introduced_by: Option<Contact>,
    /// A few of the nodes that named it; none if the node knew it before.
    pub(super) named_by: Vec<SocketAddr>,
    pub(super) hop: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    New,
    Asked,
    /// Asked, and waited for longer than usual: others need not wait.
    Overdue,
    /// Asked although it is known to be silent: nobody waits.
    Hopeless,
    Answered {
        with_values: bool,
    },
    Failed,
}

impl Candidate {
    pub(super) fn new(
        target: &Id,
        contact: Contact,
        introduced_by: Option<Contact>,
        hop: u32,
    ) -> Candidate {
        let distance = target.distance(&contact.id);
        let named_by = introduced_by.iter().map(|by| by.address).collect();
        Candidate { distance, contact, introduced_by, named_by, hop, state: State::New }
    }

    /// A contact that a node named and the lookup does not ask.
    pub(super) fn named(target: &Id, contact: Contact, by: SocketAddr) -> Candidate {
        Candidate { named_by: vec![by], ..Candidate::new(target, contact, None, 1) }
    }

    pub(super) fn distance(&self) -> Distance {
        self.distance
    }

    pub(super) fn answered(&self) -> bool {
        matches!(self.state, State::Answered { .. })
    }

    pub(super) fn lacks_values(&self) -> bool {
        self.state == (State::Answered { with_values: false })
    }

    /// A contact that failed, or may not be asked, makes room for the same id at another address:
    /// the node that introduced the first may have been mistaken, or lied.
    fn give_way(&mut self, new: Candidate, may_ask: impl Fn(&Candidate) -> bool) -> bool {
        let is_lost = self.state == State::Failed || self.state == State::New && !may_ask(self);
        let is_same = self.contact == new.contact;
        if is_lost && !is_same {
            *self = new;
            return true;
        }
        if is_same && !self.named_by.is_empty() && self.named_by.len() < MAX_NAMERS {
            self.named_by.extend(new.named_by);
        }
        false
    }
}

impl Path {
    pub(super) fn new(limits: Bounds) -> Path {
        Path {
            limits,
            candidates: Vec::new(),
            queries: 0,
            with_values: 0,
            holding: 0,
            answered_round: 0,
        }
    }

    /// All contacts that it keeps in mind, the nearest first.
    pub(super) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    pub(super) fn with_values(&self) -> usize {
        self.with_values
    }

    /// The round of queries that are sent now.
    pub(super) fn round(&self) -> u32 {
        self.answered_round + 1
    }

    /// Values are known without a query.
    pub(super) fn on_own_values(&mut self) {
        self.with_values += 1;
    }

    /// Files a contact under its distance. Returns whether it is new and near enough to keep.
    pub(super) fn add(&mut self, new: Candidate, may_ask: impl Fn(&Candidate) -> bool) -> bool {
        match self.candidates.binary_search_by_key(&new.distance, |c| c.distance) {
            Ok(at) => self.candidates[at].give_way(new, may_ask),
            Err(at) if at >= MAX_CANDIDATES => false,
            Err(at) => {
                self.candidates.insert(at, new);
                self.forget_farthest();
                true
            }
        }
    }

    /// The next contact to ask, which then counts as asked. `is_taken` tells whether a contact was
    /// asked on another path, and `may_ask` whether it may be sent something now.
    ///
    /// At most alpha queries that are not overdue run at once, and only the k closest contacts are ever
    /// asked. Contacts that failed, are overdue or hopeless do not count among those k: most of the latter
    /// two are dead, and a replacement is asked before that is certain. The path waits for a contact that
    /// may not be asked now as long as an answer may change that.
    pub(super) fn next(
        &mut self,
        is_taken: impl Fn(&Contact) -> bool,
        may_ask: impl Fn(&Candidate) -> bool,
    ) -> Option<&Candidate> {
        let Bounds { alpha, queries, .. } = self.limits;
        if self.holding >= alpha || self.queries >= queries || self.has_enough_values() {
            return None;
        }
        let is_hopeful = |c: &Candidate| {
            !matches!(c.state, State::Overdue | State::Hopeless) && self.counts(c, &may_ask)
        };
        let at = self.nearest(is_hopeful, is_taken).find(|&at| {
            let candidate = &self.candidates[at];
            candidate.state == State::New && may_ask(candidate)
        })?;
        self.holding += 1;
        self.queries += 1;
        let candidate = &mut self.candidates[at];
        candidate.state = State::Asked;
        Some(candidate)
    }

    /// A query has waited longer than usual: it no longer holds up the others.
    pub(super) fn on_overdue(&mut self, distance: Distance) {
        if let Some(candidate) = self.candidate(distance)
            && candidate.state == State::Asked
        {
            candidate.state = State::Overdue;
            self.holding -= 1;
        }
    }

    /// A query was just sent to a contact that is known to be silent. Where most contacts are silent,
    /// the path waits for them after all: they are not all asked at once.
    pub(super) fn on_hopeless(&mut self, distance: Distance) {
        let hopeless = self.candidates.iter().filter(|c| c.state == State::Hopeless).count();
        if hopeless < self.limits.k
            && let Some(candidate) = self.candidate(distance)
            && candidate.state == State::Asked
        {
            candidate.state = State::Hopeless;
            self.holding -= 1;
        }
    }

    /// A query was answered.
    pub(super) fn on_answer(&mut self, distance: Distance, round: u32, with_values: bool) {
        self.settle(distance, State::Answered { with_values });
        self.answered_round = self.answered_round.max(round);
        self.with_values += usize::from(with_values);
    }

    /// A query came to nothing.
    pub(super) fn on_failure(&mut self, distance: Distance) {
        self.settle(distance, State::Failed);
    }

    /// Whether a contact was asked already, may be asked now, or may be asked once an answer that is
    /// due has come.
    fn counts(&self, candidate: &Candidate, may_ask: impl Fn(&Candidate) -> bool) -> bool {
        candidate.state != State::New || self.holding > 0 || may_ask(candidate)
    }

    /// Why the path has ended, if it has. Once any node has answered on any path, the hopeless are
    /// not waited for.
    pub(super) fn verdict(
        &self,
        has_answers: bool,
        is_taken: impl Fn(&Contact) -> bool,
        may_ask: impl Fn(&Candidate) -> bool,
    ) -> Option<End> {
        if self.has_enough_values() {
            return Some(End::EnoughValues);
        }
        let counts = |c: &Candidate| {
            !(has_answers && c.state == State::Hopeless) && self.counts(c, &may_ask)
        };
        let waiting = self.nearest(counts, is_taken).any(|at| !self.candidates[at].answered());
        match (waiting, self.queries) {
            (false, 0) => Some(End::NoContacts),
            // In that case nearer contacts may have found no place among the candidates.
            (_, queries) if queries >= self.limits.queries && !self.is_waiting() => {
                Some(End::TooManyQueries)
            }
            (false, _) => Some(End::Converged),
            (true, _) => None,
        }
    }

    fn has_enough_values(&self) -> bool {
        self.with_values >= self.limits.with_values
    }

    fn is_waiting(&self) -> bool {
        self.candidates.iter().any(|c| matches!(c.state, State::Asked | State::Overdue))
    }

    /// The positions of the k nearest contacts that may count, no more from one subnet than is
    /// allowed. Contacts that failed do not count, nor do those that were asked on another path.
    fn nearest(
        &self,
        counts: impl Fn(&Candidate) -> bool,
        is_taken: impl Fn(&Contact) -> bool,
    ) -> impl Iterator<Item = usize> {
        let mut crowd = Crowd::new(self.limits.per_subnet);
        let counted = self.candidates.iter().enumerate().filter(move |(_, c)| {
            let is_lost = c.state == State::Failed || c.state == State::New && is_taken(&c.contact);
            !is_lost && counts(c) && admits(&mut crowd, c)
        });
        counted.map(|(at, _)| at).take(self.limits.k)
    }

    /// Keeps the list bounded without losing track of anyone who was asked.
    fn forget_farthest(&mut self) {
        if self.candidates.len() > MAX_CANDIDATES
            && let Some(at) = self.candidates.iter().rposition(|c| c.state == State::New)
        {
            self.candidates.remove(at);
        }
    }

    fn settle(&mut self, distance: Distance, state: State) {
        let candidate = self.candidate(distance).expect("contacts that were asked are kept");
        let held = candidate.state == State::Asked;
        candidate.state = state;
        self.holding -= usize::from(held);
    }

    fn candidate(&mut self, distance: Distance) -> Option<&mut Candidate> {
        let at = self.candidates.binary_search_by_key(&distance, |c| c.distance).ok()?;
        Some(&mut self.candidates[at])
    }
}

/// Takes a candidate into a crowd. Private addresses count only if a node with another kind of address
/// named them: a node with a private address, and this node that hears it, live in that network.
pub(super) fn admits(crowd: &mut Crowd, candidate: &Candidate) -> bool {
    let ip = candidate.contact.address.ip();
    let told_from = candidate.introduced_by.unwrap_or(candidate.contact).address.ip();
    let is_exempt = Scope::of(ip) != Scope::Global && Scope::of(told_from) != Scope::Global;
    is_exempt || crowd.admits(ip)
}
