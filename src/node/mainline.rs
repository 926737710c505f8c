//! Answering what only nodes of Mainline ask: who shares a torrent, what lies at a place, what is known.
//!
//! Nothing is kept before the token is checked, and no address that is not validated is sent more than its
//! share: contacts are left out first, then peers. Filters and items are whole or not there; if they do not
//! fit, the question waits until the asker has answered a ping, unless it has said that it answers none.

use std::net::SocketAddr;

use crate::address::Families;
use crate::id::Id;
use crate::message::mainline::{
    AnnouncePeer, Answer, GetItem, GetPeers, PutItem, Query, Sample, code,
};
use crate::message::{CodedError, Response};
use crate::node::answers::{Validation, closest_for};
use crate::node::deferred::{DeferredQuestion, Question};
use crate::node::overlay::Active;
use crate::node::pending::Asked;
use crate::node::shared::Shared;
use crate::store::items::Items;
use crate::store::peers::MAX_SAMPLE;
use crate::time::Instant;
use crate::wire;

/// Peers in an answer at the most, as other nodes have it: more are of no use to whoever asks many nodes.
const PEERS_MAX: usize = 100;

/// Around lists of peers: `6:values` `l` `e`.
const AROUND_PEERS: usize = 10;

impl Active<'_> {
    /// Appends the answer to a query, if it is to be given now.
    pub(super) fn put_mainline_answer(
        &mut self,
        now: Instant,
        asked: &Asked,
        query: &Query<'_>,
    ) -> Validation {
        match query {
            Query::GetPeers(search) => self.put_peers_answer(now, asked, search),
            Query::Get(search) => self.put_item_answer(now, asked, search),
            Query::AnnouncePeer(announce) => self.put_announce_answer(now, asked, announce),
            Query::Put(put) => self.put_put_answer(now, asked, put),
            Query::SampleInfohashes { target } => self.put_sample(now, asked, target),
        }
    }

    fn put_peers_answer(&mut self, now: Instant, asked: &Asked, search: &GetPeers) -> Validation {
        let max = self.reply_max(asked);
        let filters_fit = max >= self.overlay.policy.answer_max
            || !search.scrape
            || self.overlay.peers.count(&search.info_hash) == 0;
        if !filters_fit && self.defer(now, asked, Question::Peers(*search)) {
            return Validation::Wanted;
        }
        self.put_peers(now, asked, search, max)
    }

    /// Appends the answer to a search for peers.
    pub(super) fn put_peers(
        &mut self,
        now: Instant,
        asked: &Asked,
        search: &GetPeers,
        max: usize,
    ) -> Validation {
        let kin = self.kin();
        let Shared { out, token_issuer, rng, bill, picked, .. } = &mut *self.shared;
        let token = token_issuer.token(now, &asked.by.address);
        let info_hash = &search.info_hash;
        let count = self.overlay.peers.count(info_hash);
        bill.named();
        bill.examined(count);
        let filters = search.scrape.then(|| self.overlay.peers.filters(info_hash)).flatten();
        if filters.is_some() {
            bill.hashed(count);
        }
        let answer = Answer { token: Some(&token), ..Answer::default() };
        let with_filters = Answer { filters: filters.as_ref(), ..answer };
        let fit = wire::answer_len(&asked.header, &with_filters) <= max;
        let answer = if fit { with_filters } else { answer };
        let room = max.saturating_sub(wire::answer_len(&asked.header, &answer) + AROUND_PEERS);
        let number = peers_in(room, asked, self.overlay.policy.named);
        self.overlay.peers.pick(info_hash, number, search.no_seeds, rng, picked);
        let answer = Answer { peers: (!picked.is_empty()).then_some(&picked[..]), ..answer };
        let closest = closest_for(self.overlay, kin, asked, info_hash);
        wire::emit_answer(&mut out.bytes, &asked.header, &answer, asked.want, closest, max);
        Validation::Enough
    }

    fn put_item_answer(&mut self, now: Instant, asked: &Asked, search: &GetItem) -> Validation {
        let max = self.reply_max(asked);
        // An item may take the room of the ping.
        let whole = max + self.overlay.dialect.sizes().ping;
        let is_cut = self.item_len(now, asked, search) > self.item_max(max, whole);
        if is_cut && self.defer(now, asked, Question::Item(*search)) {
            return Validation::Wanted;
        }
        self.put_item(now, asked, search, (max, whole))
    }

    /// Appends the answer to a search for an item: with it, if that takes no more than `whole` bytes, and
    /// with contacts as far as `max` bytes go.
    pub(super) fn put_item(
        &mut self,
        now: Instant,
        asked: &Asked,
        search: &GetItem,
        (max, whole): (usize, usize),
    ) -> Validation {
        let (kin, whole) = (self.kin(), self.item_max(max, whole));
        let token = self.shared.token_issuer.token(now, &asked.by.address);
        self.shared.bill.named();
        let mut answer = item_answer(&self.overlay.items, search, &token);
        let len = wire::answer_len(&asked.header, &answer) + keys_len(asked.want);
        if len > whole {
            answer = Answer { key: None, signature: None, value: None, ..answer };
        }
        let has_left_room = len > whole || len <= max;
        let closest = closest_for(self.overlay, kin, asked, &search.target);
        let out = &mut self.shared.out.bytes;
        wire::emit_answer(out, &asked.header, &answer, asked.want, closest, max);
        if has_left_room { Validation::Enough } else { Validation::NoRoom }
    }

    /// How long an answer with an item may get.
    fn item_max(&self, max: usize, whole: usize) -> usize {
        let is_validated = max >= self.overlay.policy.answer_max;
        if is_validated { self.overlay.dialect.sizes().answer_max } else { whole }
    }

    /// The bytes of an answer with an item and without contacts.
    fn item_len(&self, now: Instant, asked: &Asked, search: &GetItem) -> usize {
        let token = self.shared.token_issuer.token(now, &asked.by.address);
        let answer = item_answer(&self.overlay.items, search, &token);
        wire::answer_len(&asked.header, &answer) + keys_len(asked.want)
    }

    /// Keeps a question until its asker is validated. Returns whether there was room for it, and hope.
    fn defer(&mut self, now: Instant, asked: &Asked, question: Question) -> bool {
        let question = DeferredQuestion { asked: *asked, question };
        !asked.is_read_only && self.shared.deferred.insert(now, question)
    }

    fn put_announce_answer(
        &mut self,
        now: Instant,
        asked: &Asked,
        announce: &AnnouncePeer<'_>,
    ) -> Validation {
        let source = asked.by.address;
        if !self.is_right_token(now, &source, Some(announce.token)) {
            return self.put_bad_token(asked);
        }
        let port = if announce.is_port_implied { source.port() } else { announce.port };
        let peer = SocketAddr::new(source.ip(), port);
        self.shared.bill.kept(0);
        self.shared.bill.examined(self.overlay.peers.count(&announce.info_hash));
        match self.overlay.peers.announce(now, announce.info_hash, peer, announce.is_seed) {
            Ok(()) => self.put_stored(asked),
            Err(error) => self.put_error(asked, code::SERVER, &error.to_string()),
        }
        Validation::Enough
    }

    fn put_put_answer(&mut self, now: Instant, asked: &Asked, put: &PutItem<'_>) -> Validation {
        let source = asked.by.address;
        if !self.is_right_token(now, &source, Some(put.token)) {
            return self.put_bad_token(asked);
        }
        self.shared.bill.kept(put.value.as_bytes().len());
        if put.proof.is_some() {
            self.shared.bill.verified();
        }
        match self.overlay.items.put(now, source.ip(), put) {
            Ok(()) => self.put_stored(asked),
            Err(refusal) => self.put_error(asked, refusal.code(), &refusal.to_string()),
        }
        Validation::Enough
    }

    fn put_sample(&mut self, now: Instant, asked: &Asked, target: &Id) -> Validation {
        let (max, kin) = (self.reply_max(asked), self.kin());
        self.shared.bill.named();
        self.overlay.peers.renew_sample(now, &mut self.shared.rng);
        let (of, all, interval) = self.overlay.peers.sample(now);
        let interval = u32::try_from(interval.as_micros().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let none =
            Answer { sample: Some(Sample { interval, of, info_hashes: &[] }), ..Answer::default() };
        // The length of the list may take two digits more than that of none.
        let around = wire::answer_len(&asked.header, &none) + 2 + keys_len(asked.want);
        let room = max.saturating_sub(around);
        let fitting = (room - room.min(2 * contact_len(asked))) / Id::LEN;
        let info_hashes = &all[..all.len().min(fitting).min(MAX_SAMPLE)];
        let sample = Some(Sample { interval, of, info_hashes });
        let answer = Answer { sample, ..Answer::default() };
        let closest = closest_for(self.overlay, kin, asked, target);
        let out = &mut self.shared.out.bytes;
        wire::emit_answer(out, &asked.header, &answer, asked.want, closest, max);
        Validation::Enough
    }

    fn put_stored(&mut self, asked: &Asked) {
        self.shared.counters.stored += 1;
        self.put(asked, &Response::Stored);
    }

    fn put_bad_token(&mut self, asked: &Asked) -> Validation {
        self.put_error(asked, code::PROTOCOL, "token: not the one for this address");
        Validation::Enough
    }

    fn put_error(&mut self, asked: &Asked, code: i64, text: &str) {
        self.put(asked, CodedError { code, text: text.as_bytes() });
    }
}

/// What an answer tells of an item. One that is not newer than what the asker knows is left out but for
/// its number.
fn item_answer<'a>(items: &'a Items, search: &GetItem, token: &'a [u8]) -> Answer<'a> {
    let answer = Answer { token: Some(token), ..Answer::default() };
    let Some(item) = items.get(&search.target) else { return answer };
    let Some(proof) = &item.proof else {
        return Answer { value: Some(&item.value), ..answer };
    };
    let answer = Answer { seq: Some(proof.seq), ..answer };
    if search.seq.is_some_and(|known| proof.seq <= known) {
        return answer;
    }
    let (key, signature) = (Some(&proof.key), Some(&proof.signature));
    Answer { key, signature, value: Some(&item.value), ..answer }
}

/// How many peers an answer names in that many bytes, beside contacts.
fn peers_in(room: usize, asked: &Asked, named: usize) -> usize {
    let peer_len = if asked.by.address.is_ipv4() { b"6:".len() + 6 } else { b"18:".len() + 18 };
    let room = room.saturating_sub(keys_len(asked.want));
    let contacts = (named * contact_len(asked)).min(room / 2);
    ((room - contacts) / peer_len).min(PEERS_MAX)
}

/// The bytes of a contact of the asker's own family.
fn contact_len(asked: &Asked) -> usize {
    Id::LEN + if asked.by.address.is_ipv4() { 6 } else { 18 }
}

/// The bytes of the keys of contacts.
fn keys_len(families: Families) -> usize {
    let len = |is_wanted: bool, key: &[u8]| if is_wanted { key.len() } else { 0 };
    len(families.ipv4, b"5:nodes000:") + len(families.ipv6, b"6:nodes6000:")
}
