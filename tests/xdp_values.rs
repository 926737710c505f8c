//! The kernel answers with values as the node does, to the byte but for the order of contacts, and leaves it
//! the rest as it came; and no answer is older than what the node has told.
#![cfg(target_os = "linux")]

#[cfg(not(fast_path))]
#[test]
fn values() {
    eprintln!("skipped: no fast path on this system");
}

#[cfg(fast_path)]
mod packets;
#[cfg(fast_path)]
mod peer;
#[cfg(fast_path)]
mod xdp_helpers;

#[cfg(fast_path)]
mod values {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use kademlua::bencode::{Item, Value};
    use kademlua::id::Id;
    use kademlua::message::{
        Contact, CopyOf, FindValue, Request, Response, Rpc, StoreMode, StoreRequest, TransactionId,
    };
    use kademlua::store::{Deposit, Party, RowId, Standing};
    use kademlua::time::Duration as Span;
    use kademlua::wire::{Body, Dialect, Header, emit, parse};
    use kademlua::xdp::{Counter, Trial, Verdict};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use crate::packets::{MODES, Packet, attachment, counted, message_at, trial};
    use crate::peer::Bench;
    use crate::xdp_helpers::{CLIENT, Client, Lab, SERVER};

    const PORT: u16 = 8_001;
    const TURNS: usize = 6_000;
    const KEYS: usize = 40;

    /// Bytes of a value that the kernel answers with.
    const CACHED_MAX: usize = 1_000;

    fn own() -> Id {
        Id::of_name(PORT.to_string())
    }

    fn local(is_ipv4: bool) -> SocketAddr {
        let ip = if is_ipv4 { "10.0.0.9" } else { "fd00::9" };
        SocketAddr::new(ip.parse().unwrap(), PORT)
    }

    fn address(rng: &mut ChaCha8Rng, is_ipv4: bool) -> SocketAddr {
        let port = rng.random_range(1..=u16::MAX);
        if is_ipv4 {
            return (Ipv4Addr::from(0x0a00_0000 | rng.random::<u32>() >> 8), port).into();
        }
        let short = rng.random_ratio(1, 8);
        let host = rng.random::<u128>() >> if short { 80 } else { 8 };
        (Ipv6Addr::from(0xfd << 120 | host), port).into()
    }

    fn key(number: usize) -> Id {
        Id::of_name(format!("key {number}"))
    }

    fn value(rng: &mut ChaCha8Rng, len: usize) -> Value {
        let digits = len.to_string().len();
        let bytes: Vec<u8> = (0..len.saturating_sub(digits + 1)).map(|_| rng.random()).collect();
        Value::bytes(&bytes)
    }

    /// A node and the programs with its table and all its values.
    struct Stage {
        trial: Trial,
        bench: Bench,
        contacts: Vec<Contact>,
        rows: u64,
    }

    impl Stage {
        fn set(contacts: usize, rng: &mut ChaCha8Rng) -> Option<Stage> {
            let trial = trial(&attachment(PORT))?;
            let mut bench = Bench::without_limits();
            let mut tried = 0;
            while bench.node.table().good().count() < contacts {
                let id = own().random_at(tried / 20 % 20, rng);
                let address = address(rng, tried % 2 == 0);
                bench.node.introduce(bench.now, Contact { id, address });
                tried += 1;
            }
            bench.drain();
            let contacts = bench.node.table().good().map(|entry| entry.contact).collect();
            let stage = Stage { trial, bench, contacts, rows: 0 };
            stage.mirror();
            Some(stage)
        }

        fn mirror(&self) {
            self.trial.mirror(&self.bench.node, &[local(true), local(false)]).unwrap();
        }

        /// Puts a value there, of a publisher of its own.
        fn keep(&mut self, key: Id, value: Value, age: Span) {
            self.rows += 1;
            let [.., a, b] = self.rows.to_be_bytes();
            let id = Id::of_name(format!("publisher {}", self.rows));
            let publisher = Party::Node(Contact { id, address: ([172, 16 + a, b, 1], 9).into() });
            let deposit = Deposit {
                key,
                value,
                mode: StoreMode::Add,
                publisher,
                depositor: publisher,
                standing: Standing::Published,
                age,
            };
            self.bench.node.restore(self.bench.now, RowId(self.rows), deposit).unwrap();
        }

        fn cache(&self, key: &Id) -> bool {
            self.trial.cache(&self.bench.node, key).unwrap()
        }

        fn run(
            &mut self,
            turn: usize,
            source: SocketAddr,
            message: &[u8],
        ) -> (Verdict, Packet, Vec<u8>, Counter) {
            self.trial.beat(Some(Duration::ZERO));
            self.trial.set_clock(self.bench.now);
            let packet = Packet::new(source, local(source.is_ipv4()), message.to_vec());
            let ((verdict, out), counters) = counted(&mut self.trial, |trial| {
                trial.run(MODES[turn % 2], &packet.bytes()).unwrap()
            });
            // A stranger may be told of first.
            (verdict, packet, out, *counters.last().expect("it is counted"))
        }

        /// The node's answer; `None` if it asks back first.
        fn by_node(&mut self, source: SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
            let sent = self.bench.receive(source, message);
            sent.into_iter().find(|sent| sent.request().is_none()).map(|sent| sent.bytes)
        }

        /// Both answer the same, or the kernel leaves it to the node. Returns what became of it.
        fn compare(&mut self, turn: usize, source: SocketAddr, message: &[u8]) -> Counter {
            let (verdict, packet, out, counter) = self.run(turn, source, message);
            let expected = self.by_node(source, message);
            if verdict == Verdict::Pass {
                assert!(out == packet.bytes(), "turn {turn}: changed");
                return counter;
            }
            assert_eq!(verdict, Verdict::Reply, "turn {turn}");
            let expected = expected.unwrap_or_else(|| panic!("turn {turn}: the node is silent"));
            let reply = out[message_at(source.is_ipv4())..].to_vec();
            assert_eq!(reply.len(), expected.len(), "turn {turn}");
            let (before, contacts) = taken_apart(&reply);
            let (before_by_node, contacts_by_node) = taken_apart(&expected);
            assert!(before == before_by_node, "turn {turn}: header and values");
            assert_eq!(contacts, contacts_by_node, "turn {turn}");
            // Addresses, lengths and sums.
            assert!(out == packet.answered(reply).bytes(), "turn {turn}");
            counter
        }
    }

    /// The bytes of an answer before its contacts, and these.
    fn taken_apart(reply: &[u8]) -> (Vec<u8>, BTreeSet<Contact>) {
        const CLOSEST: &[u8] = b"7:closestl";
        let Body::Answer(answer) = parse(reply).unwrap().body else { panic!("an answer") };
        let Ok(Response::Values { closest, .. }) = answer.read(Rpc::FindValue) else {
            panic!("values")
        };
        let at = reply.windows(CLOSEST.len()).rposition(|part| part == CLOSEST).unwrap();
        let count = closest.len();
        let closest: BTreeSet<_> = closest.into_iter().collect();
        assert_eq!(closest.len(), count, "none comes twice");
        (reply[..at].to_vec(), closest)
    }

    /// What is asked: in one of the two orders of its keys, with or without a limit and a token.
    fn request(
        from: Id,
        turn: usize,
        key: &Id,
        (limit, token): (Option<i64>, Option<&[u8]>),
        args_first: bool,
    ) -> Vec<u8> {
        let mut args = [b"20:", &key.as_bytes()[..]].concat();
        if let Some(limit) = limit {
            args.extend(format!("i{limit}e").bytes());
        }
        if let Some(token) = token {
            args.extend(format!("d5:token{}:", token.len()).bytes());
            args.extend(token);
            args.push(b'e');
        }
        let payload = match args_first {
            true => [b"d4:argsl", &args[..], b"e4:name9:findvaluee"].concat(),
            false => [b"d4:name9:findvalue4:argsl", &args[..], b"ee"].concat(),
        };
        let mut out = vec![1];
        out.extend(from.as_bytes());
        out.extend((turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        out.push(1);
        out.extend((payload.len() as u16).to_be_bytes());
        out.extend(payload);
        out
    }

    /// One value or several under each key, none, and some that are too long.
    fn fill(stage: &mut Stage, rng: &mut ChaCha8Rng) -> Vec<bool> {
        let mut cached = Vec::new();
        for number in 0..KEYS {
            let mut all = 0;
            for _ in 0..[1, 1, 1, 2, 5, 0][number % 6] {
                let len = match number % 5 {
                    0 => rng.random_range(3..60),
                    1 => rng.random_range(950..1_100),
                    _ => rng.random_range(3..400),
                };
                let value = value(rng, len);
                all += value.as_bytes().len();
                stage.keep(key(number), value, Span::ZERO);
            }
            let is_cached = stage.cache(&key(number));
            assert!(is_cached || all == 0 || all > CACHED_MAX, "{all} bytes under key {number}");
            assert!(!is_cached || (1..=CACHED_MAX + 2).contains(&all), "{all} under key {number}");
            cached.push(is_cached);
        }
        stage.mirror();
        cached
    }

    #[test]
    fn values_are_answered_as_the_node_does() {
        for count in [1, 19, 60, 300] {
            let mut rng = ChaCha8Rng::seed_from_u64(count as u64);
            let Some(mut stage) = Stage::set(count, &mut rng) else { return };
            let cached = fill(&mut stage, &mut rng);
            let (mut answered, mut unproved) = (0, 0);
            for turn in 0..TURNS {
                let is_ipv4 = rng.random();
                let stranger =
                    Contact { id: Id::random(&mut rng), address: address(&mut rng, is_ipv4) };
                let known = stage.contacts[rng.random_range(0..stage.contacts.len())];
                let (asker, is_known) = match turn % 4 {
                    0 => (stranger, false),
                    1 => (Contact { address: stranger.address, ..known }, false),
                    2 => (Contact { id: stranger.id, ..known }, false),
                    _ => (known, true),
                };
                let number = rng.random_range(0..KEYS);
                let limit = [None, Some(0), Some(1), Some(2), Some(6), Some(1_000), Some(12_345)];
                let limit = limit[rng.random_range(0..limit.len())];
                let token: Option<&[u8]> =
                    [None, Some(&b""[..]), Some(&[7; 16]), Some(&[7; 15])][rng.random_range(0..4)];
                let mut message =
                    request(asker.id, turn, &key(number), (limit, token), turn / 4 % 2 == 0);
                message.resize(message.len() + rng.random_range(0..450), 0);
                let counter = stage.compare(turn, asker.address, &message);
                answered += usize::from(counter == Counter::AnsweredFindValue);
                unproved += usize::from(counter == Counter::PassedUnproved);
                // One that is known is answered if all fits.
                let is_plain = limit.is_some_and(|limit| (5..10_000).contains(&limit))
                    && token.is_none_or(|token| token.len() != 15);
                if is_known && is_plain && cached[number] {
                    let in_kernel = [Counter::AnsweredFindValue, Counter::PassedAmbiguous];
                    assert!(in_kernel.contains(&counter), "turn {turn}: {counter:?}");
                }
                if !cached[number] {
                    assert_ne!(counter, Counter::AnsweredFindValue, "turn {turn}");
                }
            }
            println!("{count} contacts: {answered} answered, {unproved} unproved");
            assert!(answered > TURNS / 20 && unproved > TURNS / 100, "{answered} {unproved}");
        }
    }

    /// Whatever comes is answered as the node would answer it, or goes up as it came.
    #[test]
    fn mutated_requests_are_answered_as_the_node_does_or_passed() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let Some(mut stage) = Stage::set(60, &mut rng) else { return };
        fill(&mut stage, &mut rng);
        let mut answered = 0;
        for turn in 0..2 * TURNS {
            let known = stage.contacts[rng.random_range(0..stage.contacts.len())];
            let limit = rng.random_range(-3..30);
            let token = [None, Some(&b""[..]), Some(&[7; 16])][turn % 3];
            let key = key(rng.random_range(0..KEYS));
            let mut message = request(known.id, turn, &key, (Some(limit), token), turn % 2 == 0);
            for _ in 0..rng.random_range(0..3) {
                let at = rng.random_range(29..message.len());
                // Rather something that stands there anyway.
                message[at] = match rng.random_range(0..3) {
                    0 => rng.random(),
                    1 => b"0123456789:deil"[rng.random_range(0..15)],
                    _ => message[rng.random_range(29..message.len())],
                };
            }
            if rng.random_ratio(1, 8) {
                message.truncate(rng.random_range(0..message.len()));
            }
            if rng.random() {
                message.resize(message.len() + 100, 0);
            }
            let (verdict, packet, out, counter) = stage.run(turn, known.address, &message);
            if counter == Counter::AnsweredFindValue {
                stage.compare(turn, known.address, &message);
                answered += 1;
            } else if verdict == Verdict::Pass {
                assert!(out == packet.bytes(), "turn {turn}: changed");
            }
        }
        println!("{answered} answered");
        assert!(answered > TURNS / 4, "{answered}");
    }

    /// A value whose time is over is the node's to forget.
    #[test]
    fn a_value_is_not_told_after_it_has_expired() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let Some(mut stage) = Stage::set(20, &mut rng) else { return };
        let lives = Span::from_secs(10);
        let age = stage.bench.node.config().expire.minus(lives);
        let contact = stage.contacts[0];
        // Of two values the one that expires first decides; and one that stands for an equal one.
        let (first, second) = (value(&mut rng, 30), value(&mut rng, 30));
        for (name, values) in [
            ("one", vec![(first.clone(), age)]),
            ("two", vec![(first.clone(), Span::ZERO), (second, age)]),
            ("equal", vec![(first.clone(), age), (first, Span::ZERO)]),
        ] {
            let key = Id::of_name(name);
            values.into_iter().for_each(|(value, age)| stage.keep(key, value, age));
            assert!(stage.cache(&key));
            let began = stage.bench.now;
            let message = request(contact.id, 0, &key, (Some(6), None), false);
            for (after, expected) in [
                (Span::ZERO, Counter::AnsweredFindValue),
                (lives.minus(Span::from_millis(60)), Counter::AnsweredFindValue),
                (lives, Counter::PassedNotCached),
                (lives.times(3), Counter::PassedNotCached),
            ] {
                stage.bench.now = began + after;
                for mode in 0..2 {
                    assert_eq!(stage.compare(mode, contact.address, &message), expected, "{name}");
                }
            }
            stage.bench.now = began;
        }
    }

    #[test]
    fn what_is_taken_back_is_not_told_and_what_takes_its_place_is() {
        let mut rng = ChaCha8Rng::seed_from_u64(14);
        let Some(mut stage) = Stage::set(20, &mut rng) else { return };
        let contact = stage.contacts[0];
        let key = key(0);
        let message = request(contact.id, 0, &key, (Some(100), None), true);
        assert_eq!(stage.compare(0, contact.address, &message), Counter::PassedNotCached);
        for round in 0..20 {
            let value = value(&mut rng, 10 + round);
            stage.keep(key, value, Span::ZERO);
            stage.trial.uncache(&key).unwrap();
            assert_eq!(stage.compare(round, contact.address, &message), Counter::PassedNotCached);
            assert!(stage.cache(&key));
            assert_eq!(stage.compare(round, contact.address, &message), Counter::AnsweredFindValue);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Stores a value; returns once that was acknowledged.
    fn store(client: &mut Client, key: Id, value: &[u8], copy: Option<CopyOf>) {
        let mut token = Vec::new();
        for _ in 0..2 {
            let store = Request::Store(StoreRequest {
                key,
                value: Item::parse(value).unwrap(),
                mode: StoreMode::Add,
                copy,
                token: Some(&token),
            });
            match client.ask(&store, SECOND).expect("an answer") {
                Response::Stored => return,
                Response::Refused { token: Some(wanted), .. } => token = wanted,
                other => panic!("{other:?}"),
            }
        }
        panic!("the node wants ever other tokens");
    }

    fn values_under(client: &mut Client, key: Id) -> Vec<Vec<u8>> {
        let search = FindValue { token: Some(b""), ..FindValue::new(key, 6) };
        match client.ask(&Request::FindValue(search), SECOND).expect("an answer") {
            Response::Values { values, .. } => {
                values.iter().map(|value| value.as_bytes().to_vec()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn count(lab: &Lab, what: &str, which: &str) -> u64 {
        lab.status(PORT)[what][which].as_u64().unwrap()
    }

    /// A node, a kernel, and a client that reads what it has written.
    #[test]
    fn a_store_that_was_acknowledged_is_what_everybody_reads() {
        const ROUNDS: u64 = 300;
        let Some(mut lab) = Lab::new("values") else { return };
        lab.xdp(SERVER, &format!("attach --iface veth-s --port {PORT}"));
        lab.serve_known(PORT, "10.77.0.1", "");
        let target = ([10, 77, 0, 1], PORT).into();
        let mut client = lab.client(CLIENT, "10.77.0.2:0", target);
        let key = Id::of_name("hot");
        assert_eq!(values_under(&mut client, key), <Vec<Vec<u8>>>::new());
        // Until the client is a contact, which may be sent more than three times what it sends.
        lab.wait_for("contact", || {
            client.pings();
            lab.status(PORT)["contacts"]["ipv4"] == 4
        });
        for round in 0..ROUNDS {
            let value = format!("i{round}e").into_bytes();
            store(&mut client, key, &value, None);
            for _ in 0..3 {
                assert_eq!(
                    values_under(&mut client, key),
                    std::slice::from_ref(&value),
                    "round {round}"
                );
            }
        }
        // What is asked for often comes from the kernel; a place rests when its value has changed.
        lab.wait_for("hits", || {
            values_under(&mut client, key);
            count(&lab, "answered", "findvalue") > ROUNDS / 3
        });
        // Told with the heartbeat.
        let size = serde_json::json!({ "keys": 1, "bytes": 27 });
        lab.wait_for("size of the cache", || lab.status(PORT)["cached"] == size);
        let status = lab.status(PORT);
        assert!(count(&lab, "passed", "not_cached") >= ROUNDS, "{status}");
        // One that is about to expire, beside it: all goes, and the other stays.
        let age = Span::from_secs(24 * 3_600 - 4);
        let id = Id::of_name("other");
        let publisher = Some(Contact { id, address: ([10, 77, 0, 77], 9).into() });
        store(&mut client, key, b"5:short", Some(CopyOf { publisher, age }));
        let before = count(&lab, "answered", "findvalue");
        lab.wait_for("hits of both values", || {
            assert_eq!(values_under(&mut client, key).len(), 2);
            count(&lab, "answered", "findvalue") > before
        });
        let last = format!("i{}e", ROUNDS - 1).into_bytes();
        lab.wait_for("end of the value", || values_under(&mut client, key).len() < 2);
        assert_eq!(values_under(&mut client, key), std::slice::from_ref(&last));
        let before = count(&lab, "answered", "findvalue");
        lab.wait_for("hits of the other", || {
            assert_eq!(values_under(&mut client, key), std::slice::from_ref(&last));
            count(&lab, "answered", "findvalue") > before
        });
    }

    /// Values that the node only hears of are not kept, and so not told.
    #[test]
    fn what_passes_through_is_not_cached() {
        let Some(mut lab) = Lab::new("passing") else { return };
        lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
        lab.serve_known(PORT, "127.0.0.1", "--bootstrap 127.0.0.1:9");
        let mut holder = lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], PORT + 1).into());
        let key = Id::of_name("elsewhere");
        store(&mut holder, key, b"4:here", None);
        // The node looks it up for others, and answers for itself: it has nothing.
        let mut client = lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], PORT).into());
        let via = format!("get {key} --via 127.0.0.1:{PORT}");
        let output = lab.run(SERVER, &via);
        assert!(output.status.success(), "{output:?}");
        for _ in 0..20 {
            assert_eq!(values_under(&mut client, key), <Vec<Vec<u8>>>::new());
        }
        let status = lab.status(PORT);
        assert_eq!(status["cached"]["keys"], 0, "{status}");
        assert_eq!(status["answered"]["findvalue"], 0, "{status}");
    }

    /// The header of what the tests write is that of the codec.
    #[test]
    fn requests_are_those_of_the_codec() {
        let key = key(1);
        let search = FindValue { token: Some(b""), ..FindValue::new(key, 6) };
        let transaction = TransactionId::from_slice(&0_u64.to_be_bytes()).unwrap();
        let header = Header { dialect: Dialect::V1, from: own(), transaction, asker: None };
        let mut out = Vec::new();
        emit(&mut out, &header, &Request::FindValue(search));
        let ours = request(own(), 0, &key, (Some(6), Some(b"")), false);
        assert_eq!(out[..ours.len()], ours);
        assert!(out[ours.len()..].iter().all(|byte| *byte == 0));
    }
}
