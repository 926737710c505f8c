//! The kernel hands routes on and relays answers as the node does, to the byte, and leaves it the rest as
//! it came.

#[cfg(not(fast_path))]
#[test]
fn routes() {
    eprintln!("skipped: no fast path on this system");
}

#[cfg(fast_path)]
mod packets;
#[cfg(fast_path)]
mod peer;

#[cfg(fast_path)]
mod routes {
    use std::net::SocketAddr;
    use std::time::Duration;

    use kademlua::address::LocalEnd;
    use kademlua::bencode::Value;
    use kademlua::id::Id;
    use kademlua::message::{
        Contact, Request, Route, RouteFlags, RouteKind, StoreMode, StoreRequest, TransactionId,
    };
    use kademlua::time::Duration as Span;
    use kademlua::wire::{Body, Dialect, Header, Message, emit, parse};
    use kademlua::xdp::{Counter, Mode, Trial, Verdict};
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use crate::packets::{MODES, Packet, attachment, counted, trial};
    use crate::peer::{Bench, Sent, datagram};

    const PORT: u16 = 8_001;
    const PADDED: usize = 400;
    /// Microseconds of a stamp.
    const STAMP: u64 = 1 << 20;

    const CALL: TransactionId = TransactionId::new(*b"the call");

    fn own() -> Id {
        Id::of_name(PORT.to_string())
    }

    fn local(is_ipv4: bool) -> SocketAddr {
        let ip = if is_ipv4 { "10.0.0.9" } else { "fd00::9" };
        SocketAddr::new(ip.parse().unwrap(), PORT)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn client(is_ipv4: bool) -> SocketAddr {
        at(if is_ipv4 { "192.0.2.7:4000" } else { "[2001:db8::7]:4000" })
    }

    fn families() -> [bool; 2] {
        [true, false]
    }

    /// Contacts in the first buckets, of both families, each in a network of its own.
    fn contacts() -> Vec<Contact> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut all = Vec::new();
        for (bucket, number) in (0..12_u8).flat_map(|bucket| (0..8_u8).map(move |n| (bucket, n))) {
            let id = own().random_at(bucket.into(), &mut rng);
            let port = 900 + 1_000 * u16::from(number);
            let address = match number % 2 {
                0 => ([10, 1 + bucket, number, 1], port).into(),
                _ => at(&format!("[fd{bucket:02x}:{number}::1]:{port}")),
            };
            all.push(Contact { id, address });
        }
        all
    }

    /// A node and the programs with its table.
    struct Stage {
        trial: Trial,
        bench: Bench,
    }

    impl Stage {
        fn set() -> Option<Stage> {
            let trial = trial(&attachment(PORT))?;
            let mut bench = Bench::without_limits();
            for contact in contacts() {
                assert!(bench.node.introduce(bench.now, contact), "{contact:?}");
            }
            bench.node.add_own_address(local(true));
            bench.drain();
            let stage = Stage { trial, bench };
            stage.mirror();
            Some(stage)
        }

        fn mirror(&self) {
            self.trial.mirror(&self.bench.node, &[local(true), local(false)]).unwrap();
        }

        /// What becomes of a message in the kernel.
        fn run(
            &mut self,
            mode: Mode,
            source: SocketAddr,
            message: &[u8],
        ) -> (Verdict, Packet, Vec<u8>, Vec<Counter>) {
            self.trial.beat(Some(Duration::ZERO));
            // The kernel's clock is a little behind, and goes on meanwhile: not close to a new stamp.
            match self.bench.now.as_micros() % STAMP {
                0..20_000 => self.bench.now += Span::from_millis(20),
                900_000.. => self.bench.now += Span::from_millis(200),
                _ => {}
            }
            self.trial.set_clock(self.bench.now);
            let packet = Packet::new(source, local(source.is_ipv4()), message.to_vec());
            let ((verdict, out), counters) =
                counted(&mut self.trial, |trial| trial.run(mode, &packet.bytes()).unwrap());
            (verdict, packet, out, counters)
        }

        /// What the node sends for it.
        fn by_node(&mut self, source: SocketAddr, message: &[u8]) -> Vec<Sent> {
            let ip = Some(local(source.is_ipv4()).ip());
            let end = LocalEnd { ip, ..LocalEnd::default() };
            self.bench.receive_at(end, source, message)
        }

        /// Both do the same, or the kernel leaves it to the node. Returns what the kernel did.
        fn compare(
            &mut self,
            mode: Mode,
            source: SocketAddr,
            message: &[u8],
        ) -> (Verdict, Vec<u8>) {
            let (verdict, packet, out, counters) = self.run(mode, source, message);
            if verdict == Verdict::Pass {
                assert!(out == packet.bytes(), "{mode:?}: changed");
                return (verdict, out);
            }
            let sent = self.by_node(source, message);
            if verdict == Verdict::Drop {
                assert!(sent.is_empty(), "{mode:?} {counters:?}: {sent:?}");
                return (verdict, out);
            }
            let [sent] = &sent[..] else { panic!("{mode:?}: one datagram: {sent:?}") };
            assert_eq!(sent.from.ip.unwrap(), packet.destination.ip());
            let relayed = counters.contains(&Counter::ForwardedRelayed);
            let macs = if relayed { (packet.to_mac, packet.from_mac) } else { ([0; 6], [0; 6]) };
            let expected = Packet {
                from_mac: macs.0,
                to_mac: macs.1,
                destination: sent.to,
                ..packet.answered(sent.bytes.clone())
            };
            assert_eq!(out, expected.bytes(), "{mode:?} {counters:?}");
            (verdict, sent.bytes.clone())
        }
    }

    fn route(key: Id) -> Route<'static> {
        Route {
            flags: RouteFlags::default(),
            hops_left: 16,
            skip: 0,
            kind: RouteKind::FindValue,
            key,
            answer_to: Route::NOWHERE,
            budget: 0,
            client: Route::NOWHERE,
            stamp: 0,
            seal: [0; 8],
            payload: &[],
            rest: &[0; PADDED - 104],
        }
    }

    fn encoded<'a>(from: Id, message: Message<'a>) -> Vec<u8> {
        let mut out = Vec::new();
        emit(
            &mut out,
            &Header { dialect: Dialect::V1, from, transaction: CALL, asker: None },
            message,
        );
        out
    }

    fn read(message: &[u8]) -> Route<'_> {
        match parse(message).unwrap().body {
            Body::Route(route) | Body::Routed(route) => route.read().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The answer to a route that was handed to `by`.
    fn answer(by: Id, route: &Route<'_>, payload: &[u8]) -> Vec<u8> {
        encoded(by, Message::Routed(&Route { payload, rest: &[], ..*route }))
    }

    /// A key that the contact is nearest to.
    fn key_at(contact: &Contact) -> Id {
        contact.id.random_at(150, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn a_clients_route_is_let_in_and_its_answer_relayed() {
        let Some(mut stage) = Stage::set() else { return };
        for (is_ipv4, mode) in families().into_iter().flat_map(|f| MODES.map(|m| (f, m))) {
            let to = contacts().into_iter().find(|c| c.address.is_ipv4() == is_ipv4).unwrap();
            let client = client(is_ipv4);
            let first = encoded(Id::ZERO, Message::Route(&route(key_at(&to))));
            let (verdict, handed) = stage.compare(mode, client, &first);
            assert_eq!(verdict, Verdict::Reply, "{mode:?}");
            let handed = read(&handed);
            assert_eq!((handed.client, handed.answer_to), (client, local(is_ipv4)));
            assert_eq!(handed.hops_left, 15);
            assert!(!handed.flags.has(RouteFlags::PROVED));
            assert_eq!(usize::from(handed.budget), 3 * PADDED);

            let back = answer(to.id, &handed, b"ld6:retvall4:spameee");
            let (verdict, relayed) = stage.compare(mode, to.address, &back);
            assert_eq!(verdict, Verdict::Reply, "{mode:?}");
            // With the token that came the client is proved.
            let relayed = read(&relayed);
            let proved =
                Route { stamp: relayed.stamp, seal: relayed.seal, rest: &[], ..route(key_at(&to)) };
            let again = encoded(Id::ZERO, Message::Route(&proved));
            let (verdict, handed) = stage.compare(mode, client, &again);
            assert_eq!(verdict, Verdict::Reply, "{mode:?}");
            let handed = read(&handed);
            assert!(handed.flags.has(RouteFlags::PROVED));
            assert_eq!(usize::from(handed.budget), 1_400);
            stage.bench.now += Span::from_secs(60);
            // The ticket of before counts no more.
            let (verdict, _) = stage.compare(mode, to.address, &back);
            assert_eq!(verdict, Verdict::Drop, "{mode:?}");
        }
    }

    #[test]
    fn a_ticket_is_worth_two_answers_and_its_budget() {
        let Some(mut stage) = Stage::set() else { return };
        for (is_ipv4, mode) in families().into_iter().flat_map(|f| MODES.map(|m| (f, m))) {
            let to = contacts().into_iter().find(|c| c.address.is_ipv4() == is_ipv4).unwrap();
            for (payloads, expected) in [
                ([20, 20, 20], [Verdict::Reply, Verdict::Reply, Verdict::Drop]),
                ([800, 800, 20], [Verdict::Reply, Verdict::Drop, Verdict::Reply]),
                ([1_380, 20, 20], [Verdict::Drop, Verdict::Reply, Verdict::Reply]),
            ] {
                // Another ticket each time.
                stage.bench.now += Span::from_secs(8);
                let first = encoded(Id::ZERO, Message::Route(&route(key_at(&to))));
                let handed = stage.compare(mode, client(is_ipv4), &first).1;
                for (payload, expected) in payloads.into_iter().zip(expected) {
                    let back = answer(to.id, &read(&handed), &vec![b'x'; payload]);
                    let verdict = stage.compare(mode, to.address, &back).0;
                    assert_eq!(verdict, expected, "{mode:?} {payload}");
                }
            }
        }
    }

    #[test]
    fn answers_with_forged_tickets_reach_nobody() {
        let Some(mut stage) = Stage::set() else { return };
        for (is_ipv4, mode) in families().into_iter().flat_map(|f| MODES.map(|m| (f, m))) {
            let to = contacts().into_iter().find(|c| c.address.is_ipv4() == is_ipv4).unwrap();
            let first = encoded(Id::ZERO, Message::Route(&route(key_at(&to))));
            let handed = stage.compare(mode, client(is_ipv4), &first).1;
            let good = answer(to.id, &read(&handed), b"ldee");
            // The rpc id, and from the budget on: client, stamp, ticket.
            for at in (21..29).chain(74..104) {
                for bit in [1, 0x80] {
                    let mut forged = good.clone();
                    forged[at] ^= bit;
                    let (verdict, _) = stage.compare(mode, to.address, &forged);
                    assert_eq!(verdict, Verdict::Drop, "{mode:?} byte {at}");
                }
            }
            assert_eq!(stage.compare(mode, to.address, &good).0, Verdict::Reply);
        }
    }

    #[test]
    fn a_route_that_comes_from_nearer_is_dropped_and_one_to_what_is_held_goes_up() {
        let Some(mut stage) = Stage::set() else { return };
        let key = Id::of_name("key");
        let nearer = key.random_at(150, &mut ChaCha8Rng::seed_from_u64(2));
        for (is_ipv4, mode) in families().into_iter().flat_map(|f| MODES.map(|m| (f, m))) {
            let from = client(is_ipv4);
            let message = encoded(nearer, Message::Route(&route(key)));
            let (verdict, _, _, counters) = stage.run(mode, from, &message);
            assert_eq!((verdict, &*counters), (Verdict::Drop, &[Counter::DroppedNearer][..]));
        }
        let publisher = Contact { id: Id::of_name("publisher"), address: at("127.0.0.1:7000") };
        let spam = Value::bytes(b"spam");
        let (value, mode) = (spam.item(), StoreMode::Add);
        let store = StoreRequest { key, value, mode, copy: None, token: Some(b"") };
        let call = TransactionId::new(*b"question");
        let bytes = datagram(publisher.id, call, &Request::Store(store));
        stage.bench.receive(publisher.address, &bytes);
        assert_eq!(stage.bench.node.store().key_count(), 1);
        stage.mirror();
        for (is_ipv4, mode) in families().into_iter().flat_map(|f| MODES.map(|m| (f, m))) {
            let message = encoded(Id::ZERO, Message::Route(&route(key)));
            let (verdict, packet, out, counters) = stage.run(mode, client(is_ipv4), &message);
            assert_eq!((verdict, &*counters), (Verdict::Pass, &[Counter::PassedHeld][..]));
            assert!(out == packet.bytes());
        }
    }

    /// Whom it goes to is what a sort says, whatever is passed over.
    #[test]
    fn each_route_goes_to_the_contact_that_the_node_would_choose() {
        let Some(mut stage) = Stage::set() else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut forwarded = 0;
        for turn in 0..4_000 {
            let is_ipv4 = turn % 2 == 0;
            let near = contacts()[rng.random_range(0..96)].id;
            let key = match rng.random_range(0..3) {
                0 => Id::random(&mut rng),
                1 => near.random_at(rng.random_range(0..160), &mut rng),
                _ => own().random_at(rng.random_range(0..20), &mut rng),
            };
            let far = key.random_at(0, &mut rng);
            let is_entry = rng.random_ratio(1, 2);
            let rest = vec![0; rng.random_range(0..500)];
            let route = Route { skip: rng.random_range(0..6), rest: &rest, ..route(key) };
            let from = if is_entry { Id::ZERO } else { far };
            let message = encoded(from, Message::Route(&route));
            let mode = MODES[turn / 2 % 2];
            let verdict = stage.compare(mode, client(is_ipv4), &message).0;
            // What ends here the node answers; what comes from as near as the node is dropped.
            if verdict == Verdict::Pass {
                let sent = stage.by_node(client(is_ipv4), &message);
                let is_route =
                    |sent: &Sent| matches!(parse(&sent.bytes).unwrap().body, Body::Route(_));
                assert!(!sent.iter().any(is_route), "turn {turn}: {sent:?}");
            }
            forwarded += usize::from(verdict == Verdict::Reply);
        }
        println!("{forwarded} of 4,000 handed on");
        assert!(forwarded > 2_000, "{forwarded}");
        assert!(stage.trial.used().len() > 20);
    }

    /// Whatever stands in a route: both do the same, or it goes up as it came.
    #[test]
    fn mutated_routes_are_treated_as_the_node_does_or_passed() {
        const PACKETS: usize = 10_000;
        let Some(mut stage) = Stage::set() else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut met = std::collections::BTreeMap::new();
        let mut handed: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        for turn in 0..PACKETS {
            let is_ipv4 = rng.random_ratio(1, 2);
            let (source, mut message) = match rng.random_range(0..4) {
                0 if !handed.is_empty() => {
                    let (source, route) = handed[rng.random_range(0..handed.len())].clone();
                    let payload: Vec<u8> =
                        (0..rng.random_range(0..400)).map(|_| rng.random()).collect();
                    (source, answer(Id::random(&mut rng), &read(&route), &payload))
                }
                _ => {
                    let key = Id::random(&mut rng);
                    let from = if rng.random_ratio(1, 2) { Id::ZERO } else { Id::random(&mut rng) };
                    let route = Route {
                        flags: RouteFlags(if rng.random_ratio(1, 4) { rng.random() } else { 0 }),
                        hops_left: rng.random(),
                        skip: rng.random_range(0..3),
                        ..route(key)
                    };
                    (client(is_ipv4), encoded(from, Message::Route(&route)))
                }
            };
            for _ in 0..rng.random_range(0..3) {
                let at = rng.random_range(0..message.len().min(110));
                message[at] = rng.random();
            }
            if rng.random_ratio(1, 8) {
                message.truncate(rng.random_range(0..=message.len()));
            }
            let (verdict, out) = stage.compare(MODES[turn % 2], source, &message);
            *met.entry(format!("{verdict:?}")).or_insert(0) += 1;
            if verdict == Verdict::Reply && out[29] == 4 && out.len() >= 104 {
                let to = contacts()[rng.random_range(0..96)].address;
                if to.is_ipv4() == read(&out).client.is_ipv4() {
                    handed.push((to, out));
                }
            }
            stage.bench.now += Span::from_micros(rng.next_u64() % 20_000);
        }
        println!("{met:?}");
        assert!(met.values().all(|&count| count > PACKETS / 50) && met.len() == 3, "{met:?}");
    }
}
