//! Peers that answer as they are told, each in its own time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kademlua::message::Rpc;
use kademlua::node::Event;
use kademlua::time::{Duration, Instant};

use super::{Bench, Sent};

/// What a peer sends in answer to a datagram and how long that takes; nothing if it is silent.
pub(crate) type Answer<'a> = &'a mut dyn FnMut(&Sent) -> Option<(Duration, Vec<u8>)>;

impl Bench {
    /// Lets the node talk to its peers until it has an event that is not about contacts. Returns
    /// that and everything the node sent until then.
    pub(crate) fn converse(&mut self, answer: Answer<'_>) -> (Event, Vec<(Instant, Sent)>) {
        let mut on_the_way: BTreeMap<(Instant, usize), (SocketAddr, Vec<u8>)> = BTreeMap::new();
        let mut log = Vec::new();
        let mut sent = self.drain();
        loop {
            for sent in std::mem::take(&mut sent) {
                if let Some((delay, bytes)) = answer(&sent) {
                    on_the_way.insert((self.now + delay, log.len()), (sent.to, bytes));
                }
                log.push((self.now, sent));
            }
            let told =
                |event: &Event| !matches!(event, Event::ContactAdded(_) | Event::ContactLost(_));
            if let Some(at) = self.events.iter().position(told) {
                return (self.events.remove(at), log);
            }
            let next = on_the_way.first_key_value().map_or(Instant::NEVER, |((at, _), _)| *at);
            if next <= self.timeout {
                let (_, (source, bytes)) = on_the_way.pop_first().expect("nothing goes on");
                self.now = next;
                sent = self.receive(source, &bytes);
            } else {
                sent = self.wait(self.timeout.since(self.now));
            }
        }
    }
}

/// Whether a datagram is a query of a lookup.
pub(crate) fn is_query(sent: &Sent) -> bool {
    sent.asks(Rpc::FindNode) || sent.asks(Rpc::FindValue)
}
