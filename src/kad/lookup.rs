//! One iterative search: which node to ask next, when to stop, and the record of how it went.
//!
//! A lookup sends nothing and knows no clock. The node asks it for the next contact
//! (`Lookup::next_query`), sends the query, and reports what became of it (`on_*`).
//!
//! It follows one path, or several disjoint ones: each learns only from the nodes that it asked
//! itself, and no node is asked on two of them. So liars lead astray only the paths that meet them.
//! S/Kademlia (Baumgart and Mies, ICPADS 2007) §4.4.
//!
//! Read [`LookupRecord`] for what people get to see, then [`Lookup`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::address::is_loopback;
use crate::bencode::Value;
use crate::config::Config;
use crate::id::{Distance, Id};
use crate::kad::OperationId;
pub use crate::kad::credit::QuerySizes;
use crate::kad::credit::{Credit, Debtor, First};
use crate::kad::crowd::Crowd;
use crate::kad::path::{self, Bounds, Candidate, Path};
use crate::message::{Contact, Rest};
use crate::time::{Duration, Instant};

/// Queries of one lookup at the most. Honest networks need some forty; a liar that keeps inventing
/// nearer contacts ends here.
pub(crate) const MAX_QUERIES: usize = 256;

/// The fewest queries that one of several paths may send: the limit above, shared by many, would
/// end the paths that go around the liars.
const MAX_QUERIES_SHARED: usize = 32;

/// The fewest contacts that one of several paths begins with: one of them may lie, another may be
/// dead.
const SEEDS_A_PATH: usize = 3;

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call")]
pub enum Goal {
    /// The k nodes nearest to an id.
    #[serde(rename = "findnode")]
    Node {
        /// The id.
        target: Id,
    },
    /// Values under a key.
    #[serde(rename = "findvalue")]
    Value {
        /// The key.
        #[serde(rename = "target")]
        key: Id,
        /// The lookup ends once this many nodes have returned values.
        max_nodes: usize,
        /// Values asked of each node; [`ALL_ENTRIES`] for all that it has, however many answers that takes.
        #[serde(with = "crate::serial::count_or_all")]
        max_entries: usize,
    },
}

/// As many values as there are.
pub const ALL_ENTRIES: usize = usize::MAX;

/// Answers of one node to one query at the most. A key has room for 512 values by default, and an answer
/// carries one of the largest.
const MAX_PARTS: u32 = 512;

/// Values of one node that are waited for, in all its answers: eight times what a key has room for by
/// default. A node that invents more has its last answer taken for the end.
const MAX_VALUES: usize = 4_096;

/// Bytes of all answers of one node to one query, beyond which no more are asked for: half of what
/// [`MAX_PARTS`] of the largest datagrams have.
const MAX_PARTS_BYTES: usize = 4 << 20;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A caller searches.
    Search,
    /// A caller stores a value at the nodes that it finds.
    Store,
    /// The values under its target are passed on to the nodes that it finds.
    #[serde(rename = "pass on")]
    Replicate,
    /// The node joins the network, and looks for its neighbours.
    Join,
    /// Nothing was looked up in part of the routing table for a long time.
    Refresh,
}

/// The story of a lookup, as plain data. Serialised it lacks what means nothing outside of the node;
/// [`LookupView`](crate::control::LookupView) adds what is counted from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupRecord {
    /// The operation.
    #[serde(skip)]
    pub id: OperationId,
    /// What it was for.
    #[serde(flatten)]
    pub goal: Goal,
    /// Why it was begun.
    pub cause: Cause,
    /// When it began.
    #[serde(skip)]
    pub started: Instant,
    /// When it ended; while it runs, when it began.
    #[serde(skip)]
    pub ended: Instant,
    /// Who was asked, in the order of asking.
    pub queries: Vec<Query>,
    /// The nodes nearest to the target that answered, the nearest first, at most k.
    #[serde(rename = "nodes")]
    pub closest: Vec<Contact>,
    /// Values found, in the order in which they came in.
    /// Those who show a record show them where values were looked for, see `control::LookupView`.
    #[serde(skip)]
    pub values: Vec<Found>,
    /// Why it ended.
    #[serde(rename = "ended")]
    pub end: End,
}

impl LookupRecord {
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
        self.queries.iter().map(|query| (query.attempts + query.answers) as usize).sum()
    }

    /// Bytes of the datagrams sent.
    pub fn bytes_sent(&self) -> usize {
        self.queries.iter().map(|query| query.bytes_sent).sum()
    }

    /// Bytes of the datagrams received.
    pub fn bytes_received(&self) -> usize {
        self.queries.iter().map(|query| query.bytes_received).sum()
    }

    /// How many more values there are than were found, at least: the nodes tell what they hold.
    pub fn more(&self) -> usize {
        let held = |query: &Query| match query.outcome {
            Outcome::Answered { values, more, .. } if more > 0 => values.saturating_add(more),
            _ => 0,
        };
        let held = self.queries.iter().map(held).max().unwrap_or(0);
        let found: BTreeSet<&[u8]> =
            self.values.iter().map(|found| found.value.as_bytes()).collect();
        held.saturating_sub(found.len())
    }
}

/// One question to one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Who was asked.
    #[serde(rename = "who")]
    pub contact: Contact,
    /// The node that named this contact; `None` if it came from the own routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introduced_by: Option<Contact>,
    /// The path of the lookup on which it was asked, from 1.
    pub path: u32,
    /// How many introductions away: 1 for a contact of the own routing table.
    pub hop: u32,
    /// 1 for queries sent before any answer had come on their path, else one more than the latest
    /// round that had an answer.
    pub round: u32,
    /// Leading bits that its id shares with the target.
    pub bits: u32,
    /// When the question was sent: the time since the lookup began.
    pub sent: Duration,
    /// How often it was sent: more than once where a node held values back until this node's address was
    /// validated, or had more values than fit one answer. A ping that had to be answered first counts
    /// too. 0 if there was no room to send it.
    pub attempts: u32,
    /// Bytes of these datagrams.
    pub bytes_sent: usize,
    /// How many datagrams came back.
    pub answers: u32,
    /// Their bytes.
    pub bytes_received: usize,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Query {
    fn answered(&self) -> bool {
        matches!(self.outcome, Outcome::Answered { .. })
    }
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// No answer yet when the lookup ended.
    Pending,
    /// An answer came.
    Answered {
        /// Round trip; from the first datagram to the last if there were more.
        #[serde(rename = "ms")]
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
        /// Further values that the node says it has.
        more: usize,
    },
    /// No answer came in time.
    #[serde(rename = "timed out")]
    TimedOut,
    /// Something came that is no valid answer.
    Failed,
}

/// A value and the node that had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The value.
    pub value: Value,
    /// The node that returned it; `None` for this node itself.
    #[serde(rename = "who", default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Contact>,
    /// The hop of the query that found it, 0 for this node itself.
    #[serde(rename = "hops")]
    pub hop: u32,
    /// Time since the lookup began.
    #[serde(rename = "ms")]
    pub after: Duration,
}

/// Why a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It has not.
    Running,
    /// The k closest known have all answered.
    Converged,
    /// Enough nodes returned values.
    #[serde(rename = "enough values")]
    EnoughValues,
    /// Nobody was known to ask.
    #[serde(rename = "no contacts")]
    NoContacts,
    /// It would have taken more queries than any honest network needs.
    #[serde(rename = "too many queries")]
    TooManyQueries,
    /// The node had too much to do to begin with it.
    Overloaded,
}

/// A search under way.
pub struct Lookup {
    record: LookupRecord,
    own: Id,
    k: usize,
    max_per_subnet: usize,
    paths: Vec<Path>,
    /// The addresses that were asked, each with its path.
    asked: BTreeMap<SocketAddr, usize>,
    /// The answers so far to queries that go on, by the query's number.
    parts: BTreeMap<usize, Parts>,
    credit: Credit,
}

/// Somebody to ask.
pub(crate) struct Next {
    /// The number of the query.
    pub(crate) query: usize,
    pub(crate) contact: Contact,
    pub(crate) first: First,
}

/// The parts of an answer that have come.
#[derive(Default)]
struct Parts {
    answer: QueryAnswer,
    /// SHA-1 of the values in it.
    digests: BTreeSet<Id>,
    /// The value behind which the last of them began.
    after: Option<Id>,
    /// The node was sent the token that it wanted.
    has_token: bool,
}

/// An answer to a query.
#[derive(Clone, Debug, Default)]
pub struct QueryAnswer {
    /// Contacts in it that can be asked.
    pub contacts: Vec<Contact>,
    /// Values in it.
    pub values: Vec<Value>,
    /// Further values that the node has.
    pub more: usize,
    /// Bytes of its datagram.
    pub bytes: usize,
}

impl Lookup {
    /// A lookup that has asked nobody yet.
    pub fn new(
        id: OperationId,
        now: Instant,
        (goal, cause): (Goal, Cause),
        own: Id,
        k: usize,
        config: &Config,
        sizes: QuerySizes,
    ) -> Lookup {
        let record = LookupRecord {
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
        let paths = match cause {
            Cause::Search | Cause::Store | Cause::Replicate => config.paths,
            // Asking on checks what these lookups find.
            Cause::Join | Cause::Refresh => 1,
        };
        let limits = Bounds {
            k: k.div_ceil(paths).max(config.alpha.min(k)),
            alpha: config.alpha,
            queries: (MAX_QUERIES / paths).max(MAX_QUERIES_SHARED),
            with_values: match goal {
                Goal::Node { .. } => usize::MAX,
                Goal::Value { max_nodes, .. } => max_nodes.div_ceil(paths),
            },
            per_subnet: config.max_per_subnet,
        };
        let paths = (0..paths).map(|_| Path::new(limits)).collect();
        let max_per_subnet = config.max_per_subnet;
        let (asked, parts) = (BTreeMap::new(), BTreeMap::new());
        let credit = Credit::new(sizes);
        Lookup { record, own, k, max_per_subnet, paths, asked, parts, credit }
    }

    /// The story so far.
    pub fn record(&self) -> &LookupRecord {
        &self.record
    }

    /// What the lookup is for.
    pub fn goal(&self) -> Goal {
        self.record.goal
    }

    /// How many contacts it can begin with.
    pub fn seeds(&self) -> usize {
        match self.paths.len() {
            1 => self.k,
            paths => self.k.max(paths * SEEDS_A_PATH),
        }
    }

    /// Takes in contacts that the node knows already, and deals them out to the paths, all but the
    /// own id.
    pub fn seed(&mut self, contacts: impl IntoIterator<Item = Contact>) {
        let paths = self.paths.len();
        for (number, contact) in contacts.into_iter().enumerate() {
            self.add(number % paths, contact, None, 1);
        }
    }

    /// Takes in contacts that somebody named, in an answer of `bytes` bytes that was not the lookup's.
    pub fn seed_named(&mut self, by: SocketAddr, bytes: usize, contacts: &[Contact]) {
        self.credit.add(by, bytes);
        let target = self.record.goal.target();
        let paths = self.paths.len();
        for (number, &contact) in contacts.iter().enumerate() {
            if self.may_be_named(&contact, Some(&by)) {
                let named = Candidate::named(&target, contact, by);
                self.paths[number % paths].add(named, |_| true);
            }
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
        if self.record.values.len() > before {
            self.paths[0].on_own_values();
        }
    }

    /// The next contact to ask, which then counts as asked, and what to send it. Each path asks up to
    /// alpha at once. `is_validated` tells whether a contact's address is known to be its own.
    pub(crate) fn next_query(
        &mut self,
        now: Instant,
        is_validated: impl Fn(&Contact) -> bool,
    ) -> Option<Next> {
        let Lookup { paths, asked, record, credit, .. } = self;
        let query = record.queries.len();
        let (path, (contact, introduced_by, hop), round, first) =
            paths.iter_mut().enumerate().find_map(|(number, path)| {
                let round = path.round();
                let next = path.next(
                    |contact| is_taken(asked, number, contact),
                    |candidate| credit.first(&debtor(candidate, &is_validated)).is_some(),
                )?;
                let debtor = debtor(next, &is_validated);
                let first = credit.first(&debtor).expect("it may be asked");
                credit.on_sent(query, &debtor, first);
                Some((number, (next.contact, next.introduced_by, next.hop), round, first))
            })?;
        asked.insert(contact.address, path);
        record.queries.push(Query {
            contact,
            introduced_by,
            path: path as u32 + 1,
            hop,
            round,
            bits: record.goal.target().common_prefix(&contact.id),
            sent: now.since(record.started),
            attempts: 0,
            bytes_sent: 0,
            answers: 0,
            bytes_received: 0,
            outcome: Outcome::Pending,
        });
        Some(Next { query, contact, first })
    }

    /// Somebody who was pinged answered, and may be asked.
    pub fn on_reached(&mut self, query: usize, bytes: usize) {
        self.note_received(query, bytes);
    }

    /// A query was sent, in a datagram of `bytes` bytes.
    pub fn on_sent(&mut self, query: usize, bytes: usize) {
        let query = &mut self.record.queries[query];
        query.attempts += 1;
        query.bytes_sent += bytes;
    }

    /// Takes in an answer that may be only a part, with what the node says about the rest. Returns whether
    /// to send the query once more, and behind which value to go on.
    pub fn on_part(
        &mut self,
        now: Instant,
        query: usize,
        answer: QueryAnswer,
        rest: &Rest,
    ) -> Option<Option<Id>> {
        let after = self.next_part(query, &answer, rest);
        match after {
            None => self.on_answer(now, query, answer),
            Some(after) => {
                self.note_received(query, answer.bytes);
                let parts = self.parts.entry(query).or_default();
                parts.join(answer);
                parts.after = after;
                parts.has_token |= rest.token.is_some();
            }
        }
        after
    }

    /// Where the next part begins: where the last one did if values were held back for want of a token,
    /// or where the node says if all values are wanted.
    fn next_part(&self, query: usize, answer: &QueryAnswer, rest: &Rest) -> Option<Option<Id>> {
        let Goal::Value { max_entries, .. } = self.record.goal else { return None };
        let parts = self.parts.get(&query);
        let values = answer.values.len() + parts.map_or(0, |parts| parts.answer.values.len());
        let Query { attempts, bytes_received, .. } = self.record.queries[query];
        if values >= max_entries.min(MAX_VALUES)
            || attempts >= MAX_PARTS
            || bytes_received + answer.bytes >= MAX_PARTS_BYTES
        {
            return None;
        }
        let last = parts.and_then(|parts| parts.after);
        if rest.token.is_some() && !parts.is_some_and(|parts| parts.has_token) {
            return Some(last);
        }
        let goes_on = |next: &Id| max_entries == ALL_ENTRIES && Some(*next) > last;
        rest.next.filter(goes_on).map(Some)
    }

    fn note_received(&mut self, query: usize, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let Query { contact, answers, bytes_received, .. } = &mut self.record.queries[query];
        *answers += 1;
        *bytes_received += bytes;
        self.credit.on_answer(query, &contact.address, bytes);
    }

    /// A query got an answer, or the last part of one. Left out are the own id, addresses on this
    /// machine that a node on another machine names, and values beyond those that were asked for.
    pub fn on_answer(&mut self, now: Instant, query: usize, answer: QueryAnswer) {
        self.note_received(query, answer.bytes);
        let mut parts = self.parts.remove(&query).unwrap_or_default();
        parts.join(answer);
        self.on_whole_answer(now, query, parts.answer);
    }

    fn on_whole_answer(&mut self, now: Instant, query: usize, answer: QueryAnswer) {
        let QueryAnswer { contacts, mut values, more, .. } = answer;
        if let Goal::Value { max_entries, .. } = self.record.goal {
            values.truncate(max_entries);
        }
        let Query { contact, hop, round, sent, .. } = self.record.queries[query];
        let (path, distance) = self.place(query);
        self.paths[path].on_answer(distance, round, !values.is_empty());
        let bits_before = self.nearest_bits();
        let mut new = 0;
        for introduced in &contacts {
            new += usize::from(self.add(path, *introduced, Some(contact), hop + 1));
        }
        self.record.queries[query].outcome = Outcome::Answered {
            rtt: now.since(self.record.started).minus(sent),
            bits_before,
            bits_after: self.nearest_bits(),
            contacts: contacts.len(),
            new,
            values: values.len(),
            more,
        };
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
        let (path, distance) = self.place(query);
        self.paths[path].on_overdue(distance);
    }

    /// A query goes to a contact that is known to be silent: it holds up no other, and the lookup does
    /// not wait for it unless nobody else answers.
    pub fn on_hopeless(&mut self, query: usize) {
        let (path, distance) = self.place(query);
        self.paths[path].on_hopeless(distance);
    }

    /// A query failed, or brought a datagram of `bytes` bytes that is no answer. What it brought
    /// before still counts.
    pub fn on_failure(&mut self, now: Instant, query: usize, outcome: Outcome, bytes: usize) {
        self.note_received(query, bytes);
        if let Some(parts) = self.parts.remove(&query) {
            return self.on_whole_answer(now, query, parts.answer);
        }
        let (path, distance) = self.place(query);
        self.paths[path].on_failure(distance);
        self.record.queries[query].outcome = outcome;
    }

    /// Ends the lookup if nothing is left to do. Returns whether it has ended.
    pub fn try_end(&mut self, now: Instant, is_validated: impl Fn(&Contact) -> bool) -> bool {
        let Some(end) = self.verdict(is_validated) else { return false };
        self.end(now, end);
        true
    }

    /// Ends the lookup for a reason of the caller's.
    pub fn end(&mut self, now: Instant, end: End) {
        self.record.end = end;
        self.record.ended = now;
        self.record.closest = self.closest();
    }

    /// The record of a lookup that has ended.
    pub fn into_record(self) -> LookupRecord {
        self.record
    }

    /// The nearest node that answered a search for values without having any.
    pub fn nearest_without_values(&self) -> Option<Contact> {
        let lacking = self.candidates().filter(|c| c.lacks_values());
        lacking.min_by_key(|c| c.distance()).map(|c| c.contact)
    }

    /// Why all paths have ended, if they have: with values, if together they brought enough.
    fn verdict(&self, is_validated: impl Fn(&Contact) -> bool) -> Option<End> {
        let may_ask =
            |candidate: &Candidate| self.credit.first(&debtor(candidate, &is_validated)).is_some();
        let has_answers = self.candidates().any(Candidate::answered);
        let verdict = |(number, path): (usize, &Path)| {
            path.verdict(has_answers, |contact| is_taken(&self.asked, number, contact), may_ask)
        };
        let ends: Option<Vec<End>> = self.paths.iter().enumerate().map(verdict).collect();
        let ends = ends?;
        let with_values = self.paths.iter().map(Path::with_values).sum::<usize>();
        let is_enough = matches!(
            self.record.goal, Goal::Value { max_nodes, .. } if with_values >= max_nodes
        );
        if is_enough {
            return Some(End::EnoughValues);
        }
        // It does not matter that one path ended for lack of contacts, or with only its own share
        // of the values.
        let worst = [End::TooManyQueries, End::Converged, End::EnoughValues];
        let first = worst.into_iter().find(|end| ends.contains(end));
        Some(match first {
            Some(End::EnoughValues) => End::Converged,
            Some(end) => end,
            None => End::NoContacts,
        })
    }

    /// The k nearest nodes that answered on any path, no more from one subnet than is allowed.
    fn closest(&self) -> Vec<Contact> {
        let mut answered: Vec<&Candidate> = self.candidates().filter(|c| c.answered()).collect();
        answered.sort_by_key(|c| c.distance());
        answered.dedup_by_key(|c| c.distance());
        let mut crowd = Crowd::new(self.max_per_subnet);
        let admitted = answered.into_iter().filter(|c| path::admits(&mut crowd, c));
        admitted.take(self.k).map(|c| c.contact).collect()
    }

    fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.paths.iter().flat_map(Path::candidates)
    }

    /// Leading bits that the target shares with the nearest contact heard of.
    fn nearest_bits(&self) -> u32 {
        let target = self.record.goal.target();
        let nearest = self.paths.iter().filter_map(|path| path.candidates().first());
        nearest.map(|c| target.common_prefix(&c.contact.id)).max().unwrap_or(0)
    }

    /// Tells a path of a contact. Returns whether that is new to it.
    fn add(
        &mut self,
        path: usize,
        contact: Contact,
        introduced_by: Option<Contact>,
        hop: u32,
    ) -> bool {
        if !self.may_be_named(&contact, introduced_by.as_ref().map(|by| &by.address)) {
            return false;
        }
        let target = self.record.goal.target();
        let Lookup { paths, credit, .. } = self;
        let may_ask = |candidate: &Candidate| credit.first(&debtor(candidate, |_| false)).is_some();
        paths[path].add(Candidate::new(&target, contact, introduced_by, hop), may_ask)
    }

    /// Whether a contact makes sense coming from the node that named it: no node elsewhere knows
    /// this machine's loopback nodes.
    fn may_be_named(&self, contact: &Contact, by: Option<&SocketAddr>) -> bool {
        let is_from_afar = by.is_some_and(|by| !is_loopback(by));
        contact.id != self.own && !(is_from_afar && is_loopback(&contact.address))
    }

    /// The path of a query, and where on it the contact lies.
    fn place(&self, query: usize) -> (usize, Distance) {
        let Query { contact, path, .. } = self.record.queries[query];
        (path as usize - 1, self.record.goal.target().distance(&contact.id))
    }
}

impl Parts {
    /// Adds another answer of the same node; what it says last about the rest holds.
    fn join(&mut self, part: QueryAnswer) {
        let QueryAnswer { contacts, values, more, .. } = part;
        let digests = &mut self.digests;
        let is_new = |value: &Value| digests.insert(Id::of_name(value.as_bytes()));
        self.answer.values.extend(values.into_iter().filter(is_new));
        for contact in contacts {
            if !self.answer.contacts.contains(&contact) {
                self.answer.contacts.push(contact);
            }
        }
        self.answer.more = more;
    }
}

fn debtor(candidate: &Candidate, is_validated: impl Fn(&Contact) -> bool) -> Debtor<'_> {
    Debtor {
        contact: candidate.contact,
        named_by: &candidate.named_by,
        is_validated: is_validated(&candidate.contact),
    }
}

/// Whether somebody at that address was asked on another path: one node may go by many ids.
fn is_taken(asked: &BTreeMap<SocketAddr, usize>, path: usize, contact: &Contact) -> bool {
    asked.get(&contact.address).is_some_and(|&other| other != path)
}
