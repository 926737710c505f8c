//! One iterative search: whom to ask next, when to stop, and the record of how it went.
//!
//! A lookup sends nothing and knows no clock. The node asks it for the next contact
//! ([`Lookup::next_query`]), sends the query, and reports what became of it (`on_*`).
//!
//! Read [`Record`] for what people get to see, then [`Lookup`].

use crate::bencode::Value;
use crate::id::{Distance, Id};
use crate::message::Contact;
use crate::node::OperationId;
use crate::time::{Duration, Instant};

/// Queries of one lookup at the most. Honest networks need some forty; a liar that keeps inventing
/// nearer contacts ends here.
const MAX_QUERIES: usize = 256;

/// Contacts that a lookup keeps in mind, the nearest of those it heard of: no fewer than may be asked,
/// so that whoever was asked is never forgotten.
const MAX_CANDIDATES: usize = MAX_QUERIES;

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The k nodes nearest to an id.
    Node {
        /// The id.
        target: Id,
    },
    /// Values under a key.
    Value {
        /// The key.
        key: Id,
        /// Nodes with values after which the lookup ends.
        max_nodes: usize,
        /// Values asked of each node.
        max_entries: usize,
    },
}

impl Goal {
    /// The point in the id space toward which the lookup goes.
    pub fn target(&self) -> Id {
        match *self {
            Goal::Node { target } => target,
            Goal::Value { key, .. } => key,
        }
    }
}

/// Why a lookup was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A caller searches.
    Search,
    /// A caller stores a value at the nodes that it finds.
    Store,
    /// The values under its target are passed on to the nodes that it finds.
    PassOn,
    /// The node joins the network, and looks for its neighbours.
    Join,
    /// Part of the routing table has long not been asked for.
    Refresh,
}

/// The story of a lookup, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The operation.
    pub id: OperationId,
    /// What it was for.
    pub goal: Goal,
    /// Why it was begun.
    pub cause: Cause,
    /// When it began.
    pub started: Instant,
    /// When it ended; while it runs, when it began.
    pub ended: Instant,
    /// Who was asked, in the order of asking.
    pub queries: Vec<Query>,
    /// The nodes nearest to the target that answered, the nearest first, at most k.
    pub closest: Vec<Contact>,
    /// Values found, in the order in which they came in.
    pub values: Vec<Found>,
    /// Why it ended.
    pub end: End,
}

impl Record {
    /// How long it took.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.started)
    }

    /// How many introductions away from the own routing table it got; 0 if nobody answered.
    pub fn hops(&self) -> u32 {
        let answered = self.queries.iter().filter(|query| query.answered());
        answered.map(|query| query.hop).max().unwrap_or(0)
    }

    /// How many times it had to wait for answers before it could ask on; see [`Query::round`].
    pub fn rounds(&self) -> u32 {
        self.queries.iter().map(|query| query.round).max().unwrap_or(0)
    }

    /// Datagrams sent and received.
    pub fn messages(&self) -> usize {
        let messages =
            |q: &Query| usize::from(q.bytes_sent > 0) + usize::from(q.bytes_received > 0);
        self.queries.iter().map(messages).sum()
    }

    /// Bytes of the datagrams sent.
    pub fn bytes_sent(&self) -> usize {
        self.queries.iter().map(|query| query.bytes_sent).sum()
    }

    /// Bytes of the datagrams received.
    pub fn bytes_received(&self) -> usize {
        self.queries.iter().map(|query| query.bytes_received).sum()
    }
}

/// One question to one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Who was asked.
    pub contact: Contact,
    /// Who had named that contact; nobody if it came from the own routing table.
    pub introduced_by: Option<Contact>,
    /// How many introductions away: 1 for a contact of the own routing table.
    pub hop: u32,
    /// 1 for what was asked before any answer had come, else one more than the latest round of
    /// which an answer had come.
    pub round: u32,
    /// When the question was sent.
    pub sent: Instant,
    /// Bytes of its datagram; 0 if there was no room to send it.
    pub bytes_sent: usize,
    /// Bytes of the datagram that came back; 0 if none did.
    pub bytes_received: usize,
    /// What became of it.
    pub outcome: Outcome,
}

impl Query {
    fn answered(&self) -> bool {
        matches!(self.outcome, Outcome::Answered { .. })
    }
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer yet when the lookup ended.
    Pending,
    /// An answer came.
    Answered {
        /// Round trip.
        rtt: Duration,
        /// Leading bits that the target shares with the nearest contact heard of, before the
        /// answer came.
        bits_before: u32,
        /// The same, with the contacts in the answer.
        bits_after: u32,
        /// Contacts in it.
        contacts: usize,
        /// Contacts among them that the lookup had not heard of.
        new: usize,
        /// Values in it.
        values: usize,
    },
    /// No answer came in time.
    TimedOut,
    /// An answer came that was none.
    Failed,
}

/// A value and who had it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The value.
    pub value: Value,
    /// The node that returned it; `None` for this node itself.
    pub holder: Option<Contact>,
    /// The hop of the query that found it, 0 for this node itself.
    pub hop: u32,
    /// Time since the lookup began.
    pub after: Duration,
}

/// Why a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Running,
    /// The k closest known have all answered.
    Converged,
    /// Enough nodes returned values.
    EnoughValues,
    /// Nobody was known to ask.
    NoContacts,
    /// It took more queries than any honest network needs.
    TooManyQueries,
    /// The node had too much to do to begin with it.
    Overloaded,
}

/// A search under way.
pub struct Lookup {
    record: Record,
    own: Id,
    k: usize,
    alpha: usize,
    /// All contacts heard of, the nearest first.
    candidates: Vec<Candidate>,
    /// Nodes that returned values.
    with_values: usize,
    /// Queries that hold up others: sent, and neither answered, failed nor overdue.
    holding: usize,
    /// The latest round of which an answer has come.
    answered_round: u32,
}

/// An answer to a query.
pub struct Answer<'a> {
    /// Contacts in it that can be asked.
    pub contacts: &'a [Contact],
    /// Values in it.
    pub values: Vec<Value>,
    /// Bytes of its datagram.
    pub bytes: usize,
}

struct Candidate {
    distance: Distance,
    contact: Contact,
    introduced_by: Option<Contact>,
    hop: u32,
    state: State,
}

impl Candidate {
    /// A contact that failed makes room for the same id at another address: whoever introduced
    /// the first may have been mistaken, or lied.
    fn give_way(&mut self, new: Candidate) -> bool {
        let moved = self.state == State::Failed && self.contact != new.contact;
        if moved {
            *self = new;
        }
        moved
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Asked {
        query: usize,
    },
    /// Asked, and waited for longer than usual: others need not wait.
    Overdue {
        query: usize,
    },
    Answered {
        with_values: bool,
    },
    Failed,
}

impl Lookup {
    /// A lookup that has asked nobody yet.
    pub fn new(
        id: OperationId,
        now: Instant,
        (goal, cause): (Goal, Cause),
        own: Id,
        k: usize,
        alpha: usize,
    ) -> Lookup {
        let record = Record {
            id,
            goal,
            cause,
            started: now,
            ended: now,
            queries: Vec::new(),
            closest: Vec::new(),
            values: Vec::new(),
            end: End::Running,
        };
        Lookup {
            record,
            own,
            k,
            alpha,
            candidates: Vec::new(),
            with_values: 0,
            holding: 0,
            answered_round: 0,
        }
    }

    /// The story so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What the lookup is for.
    pub fn goal(&self) -> Goal {
        self.record.goal
    }

    /// Takes in contacts that the node knows already. The own id is left out.
    pub fn seed(&mut self, contacts: impl IntoIterator<Item = Contact>) {
        for contact in contacts {
            self.add(contact, None, 1);
        }
    }

    /// Takes in values that the node holds itself; together they count as one node's.
    pub fn on_own_values(&mut self, values: impl IntoIterator<Item = Value>) {
        let before = self.record.values.len();
        self.record.values.extend(values.into_iter().map(|value| Found {
            value,
            holder: None,
            hop: 0,
            after: Duration::ZERO,
        }));
        self.with_values += usize::from(self.record.values.len() > before);
    }

    /// The next contact to ask, which then counts as asked, and the number of the query.
    ///
    /// At most alpha queries that are not overdue run at once, and only the k closest contacts are
    /// ever asked, those not counted that failed or are overdue: most of the latter are dead, and
    /// whoever will be needed in their place is asked before that is certain.
    pub fn next_query(&mut self, now: Instant) -> Option<(usize, Contact)> {
        let stop = self.holding >= self.alpha || self.record.queries.len() >= MAX_QUERIES;
        if stop || self.has_enough_values() {
            return None;
        }
        let hopeful =
            |c: &&mut Candidate| !matches!(c.state, State::Failed | State::Overdue { .. });
        let mut nearest = self.candidates.iter_mut().filter(hopeful).take(self.k);
        let candidate = nearest.find(|c| c.state == State::New)?;
        let query = self.record.queries.len();
        candidate.state = State::Asked { query };
        self.holding += 1;
        self.record.queries.push(Query {
            contact: candidate.contact,
            introduced_by: candidate.introduced_by,
            hop: candidate.hop,
            round: self.answered_round + 1,
            sent: now,
            bytes_sent: 0,
            bytes_received: 0,
            outcome: Outcome::Pending,
        });
        Some((query, candidate.contact))
    }

    /// A query was sent, in a datagram of so many bytes.
    pub fn on_sent(&mut self, query: usize, bytes: usize) {
        self.record.queries[query].bytes_sent = bytes;
    }

    /// A query got an answer. The own id is left out, and so are values beyond those that were
    /// asked for.
    pub fn on_answer(&mut self, now: Instant, query: usize, answer: Answer<'_>) {
        let Answer { contacts, mut values, bytes } = answer;
        if let Goal::Value { max_entries, .. } = self.record.goal {
            values.truncate(max_entries);
        }
        self.settle(query, State::Answered { with_values: !values.is_empty() });
        let Query { contact, hop, round, sent, .. } = self.record.queries[query];
        self.answered_round = self.answered_round.max(round);
        let bits_before = self.nearest_bits();
        let mut new = 0;
        for introduced in contacts {
            new += usize::from(self.add(*introduced, Some(contact), hop + 1));
        }
        self.record.queries[query].bytes_received = bytes;
        self.record.queries[query].outcome = Outcome::Answered {
            rtt: now.since(sent),
            bits_before,
            bits_after: self.nearest_bits(),
            contacts: contacts.len(),
            new,
            values: values.len(),
        };
        self.with_values += usize::from(!values.is_empty());
        let after = now.since(self.record.started);
        self.record.values.extend(values.into_iter().map(|value| Found {
            value,
            holder: Some(contact),
            hop,
            after,
        }));
    }

    /// A query has waited longer than usual: it no longer holds up the others.
    pub fn on_overdue(&mut self, query: usize) {
        let contact = self.record.queries[query].contact;
        if let Some(candidate) = self.candidate(&contact)
            && candidate.state == (State::Asked { query })
        {
            candidate.state = State::Overdue { query };
            self.holding -= 1;
        }
    }

    /// A query came to nothing, or to a datagram of so many bytes that is no answer.
    pub fn on_failure(&mut self, query: usize, outcome: Outcome, bytes: usize) {
        self.settle(query, State::Failed);
        self.record.queries[query].bytes_received = bytes;
        self.record.queries[query].outcome = outcome;
    }

    /// Ends the lookup if nothing is left to do. Returns whether it has ended.
    pub fn try_end(&mut self, now: Instant) -> bool {
        let Some(end) = self.verdict() else { return false };
        self.end(now, end);
        true
    }

    /// Ends the lookup for a reason of the caller's.
    pub fn end(&mut self, now: Instant, end: End) {
        self.record.end = end;
        self.record.ended = now;
        self.record.closest = self.answered().take(self.k).map(|c| c.contact).collect();
    }

    /// The record of a lookup that has ended.
    pub fn into_record(self) -> Record {
        self.record
    }

    /// The nearest node that answered a search for values without having any.
    pub fn nearest_without_values(&self) -> Option<Contact> {
        let lacking = |c: &&Candidate| c.state == State::Answered { with_values: false };
        self.candidates.iter().find(lacking).map(|c| c.contact)
    }

    fn verdict(&self) -> Option<End> {
        if self.has_enough_values() {
            return Some(End::EnoughValues);
        }
        let mut nearest = self.candidates.iter().filter(|c| c.state != State::Failed).take(self.k);
        let waiting = nearest.any(|c| !matches!(c.state, State::Answered { .. }));
        match (waiting, self.record.queries.len()) {
            (false, 0) => Some(End::NoContacts),
            // Then nearer contacts may have found no place among the candidates.
            (_, MAX_QUERIES..) if !self.is_waiting() => Some(End::TooManyQueries),
            (false, _) => Some(End::Converged),
            (true, _) => None,
        }
    }

    /// Leading bits that the target shares with the nearest contact heard of.
    fn nearest_bits(&self) -> u32 {
        let target = self.record.goal.target();
        self.candidates.first().map_or(0, |nearest| target.common_prefix(&nearest.contact.id))
    }

    fn is_waiting(&self) -> bool {
        let asked = |c: &Candidate| matches!(c.state, State::Asked { .. } | State::Overdue { .. });
        self.candidates.iter().any(asked)
    }

    fn has_enough_values(&self) -> bool {
        matches!(self.record.goal, Goal::Value { max_nodes, .. } if self.with_values >= max_nodes)
    }

    fn answered(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|c| matches!(c.state, State::Answered { .. }))
    }

    /// Files a contact under its distance. Returns whether it is new and near enough to keep.
    fn add(&mut self, contact: Contact, introduced_by: Option<Contact>, hop: u32) -> bool {
        if contact.id == self.own {
            return false;
        }
        let distance = self.record.goal.target().distance(&contact.id);
        let new = Candidate { distance, contact, introduced_by, hop, state: State::New };
        match self.candidates.binary_search_by_key(&distance, |c| c.distance) {
            Ok(at) => self.candidates[at].give_way(new),
            Err(at) if at >= MAX_CANDIDATES => false,
            Err(at) => {
                self.candidates.insert(at, new);
                self.forget_farthest();
                true
            }
        }
    }

    /// Keeps the list bounded without losing track of anyone who was asked.
    fn forget_farthest(&mut self) {
        if self.candidates.len() > MAX_CANDIDATES
            && let Some(at) = self.candidates.iter().rposition(|c| c.state == State::New)
        {
            self.candidates.remove(at);
        }
    }

    fn settle(&mut self, query: usize, state: State) {
        let contact = self.record.queries[query].contact;
        let candidate = self.candidate(&contact).expect("contacts that were asked are kept");
        let held = matches!(candidate.state, State::Asked { .. });
        candidate.state = state;
        self.holding -= usize::from(held);
    }

    fn candidate(&mut self, contact: &Contact) -> Option<&mut Candidate> {
        let distance = self.record.goal.target().distance(&contact.id);
        let at = self.candidates.binary_search_by_key(&distance, |c| c.distance).ok()?;
        Some(&mut self.candidates[at])
    }
}
