//! A node's packets seen through its handle: the last ones, taps and captures.

mod net_helpers;

use std::fs;
use std::path::PathBuf;

use kademlua::message::Request;
use kademlua::net::{
    CaptureError, CaptureView, Direction, Existing, Handle, Packet, Settings, Sight, spawn,
};
use kademlua::wire::parse;
use net_helpers::{Stranger, pair, run};

/// A file of this test that is not there yet.
fn fresh(name: &str) -> PathBuf {
    let file = std::env::temp_dir().join(format!("kademlua-{name}-{}.pcap", std::process::id()));
    let _ = fs::remove_file(&file);
    file
}

/// Pings, and returns those of the packets that belong to the ping: the request and its answer.
fn is_exchange(packets: &[Packet], peer: &Handle) -> bool {
    let [request, answer] = packets else { return false };
    let call = |packet: &Packet| parse(&packet.bytes).unwrap().transaction;
    request.direction == Direction::Out
        && answer.direction == Direction::In
        && [request.peer, answer.peer] == [peer.local_addr(); 2]
        && call(request) == call(answer)
        && request.time <= answer.time
}

#[test]
fn packets_are_kept_once_somebody_has_asked() {
    run(async {
        let (a, b) = pair().await;
        assert_eq!(a.packets().await.unwrap(), [], "nobody had asked when the two met");
        a.ping(b.local_addr().into()).await.unwrap();
        let packets = a.packets().await.unwrap();
        assert!(is_exchange(&packets, &b), "{packets:?}");
        a.forget_packets().await.unwrap();
        a.ping(b.local_addr().into()).await.unwrap();
        assert_eq!(a.packets().await.unwrap(), []);
    });
}

#[test]
fn packets_are_kept_from_the_start_where_that_is_set() {
    run(async {
        let (a, _b) = pair().await;
        let bind = "127.0.0.1:0".parse().unwrap();
        let settings = Settings { bind, keeps_packets: true, ..Settings::default() };
        let node = spawn(settings).unwrap();
        node.bootstrap(vec![a.local_addr()]).await.unwrap();
        assert!(is_exchange(&node.packets().await.unwrap()[..2], &a));
    });
}

#[test]
fn a_tap_tells_what_happens_in_its_order() {
    run(async {
        let (a, b) = pair().await;
        let mut tap = a.tap().await.unwrap();
        for _ in 0..3 {
            a.ping(b.local_addr().into()).await.unwrap();
        }
        for _ in 0..3 {
            let (Some(Sight::Packet(request)), Some(Sight::Packet(answer))) =
                (tap.next().await, tap.next().await)
            else {
                panic!("not two packets")
            };
            assert!(is_exchange(&[request, answer], &b));
        }
        let c = net_helpers::start(&[a.local_addr()]);
        loop {
            let sight = tap.next().await.expect("the node goes on");
            if matches!(sight, Sight::ContactAdded(_, contact) if contact.id == c.id()) {
                break;
            }
        }
        assert_eq!(tap.losses().count(), 0);
        a.stop().await;
        while tap.next().await.is_some() {}
    });
}

#[test]
fn one_who_does_not_read_holds_nobody_up() {
    run(async {
        let (a, b) = pair().await;
        let tap = a.tap().await.unwrap();
        let mut pings = 0;
        while tap.losses().count() == 0 {
            a.ping(b.local_addr().into()).await.unwrap();
            pings += 1;
            assert!(pings < 10_000, "what waits for a tap is bounded");
        }
        a.ping(b.local_addr().into()).await.unwrap();
    });
}

#[test]
fn what_a_stranger_sends_is_seen_as_it_came() {
    run(async {
        let (a, _b) = pair().await;
        let mut tap = a.tap().await.unwrap();
        let mut stranger = Stranger::new();
        stranger.socket.send_to(b"\x1b[2Jno message", a.local_addr()).unwrap();
        stranger.send(a.local_addr(), &Request::Ping);
        let Some(Sight::Packet(packet)) = tap.next().await else { panic!("no packet") };
        assert_eq!(*packet.bytes, *b"\x1b[2Jno message");
        assert_eq!(packet.peer, stranger.socket.local_addr().unwrap());
    });
}

#[test]
fn a_capture_is_whole_when_it_or_the_node_ends() {
    run(async {
        let (a, b) = pair().await;
        let file = fresh("whole");
        a.capture(&file, Existing::Keep).await.unwrap();
        for _ in 0..100 {
            a.ping(b.local_addr().into()).await.unwrap();
        }
        let captured = a.end_capture().await.unwrap().unwrap();
        assert_eq!((captured.packets, captured.lost, &captured.file), (200, 0, &file));
        assert_eq!(fs::metadata(&file).unwrap().len(), captured.bytes);
        assert_eq!(a.end_capture().await.unwrap(), None);
        a.ping(b.local_addr().into()).await.unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), captured.bytes, "no more is written");

        a.capture(&file, Existing::Replace).await.unwrap();
        for _ in 0..100 {
            a.ping(b.local_addr().into()).await.unwrap();
        }
        a.stop().await;
        assert_eq!(fs::metadata(&file).unwrap().len(), captured.bytes);
        fs::remove_file(file).unwrap();
    });
}

#[test]
fn one_capture_at_a_time() {
    run(async {
        let (a, _b) = pair().await;
        let (file, other) = (fresh("one"), fresh("other"));
        let view = async || a.capture_view().await.unwrap();
        assert_eq!(view().await, CaptureView::default());
        a.capture(&file, Existing::Keep).await.unwrap();
        let error = a.capture(&other, Existing::Keep).await.unwrap_err();
        assert!(matches!(error, CaptureError::Running(running) if running == file));
        assert!(!other.exists());
        let CaptureView { running, captured } = view().await;
        assert!(running && captured.unwrap().file == file);
        a.end_capture().await.unwrap();
        assert_eq!(view().await, CaptureView::default());
        // A capture that could not begin is not in the way.
        let error = a.capture(&file, Existing::Keep).await.unwrap_err();
        assert!(matches!(error, CaptureError::Exists(_)));
        a.capture(&other, Existing::Keep).await.unwrap();
        a.stop().await;
        assert!(matches!(
            a.capture(&other, Existing::Replace).await,
            Err(CaptureError::Stopped(_))
        ));
        fs::remove_file(file).unwrap();
        fs::remove_file(other).unwrap();
    });
}
