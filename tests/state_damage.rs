//! A damaged state is a clear error, and never reported as success: nothing broken is taken from
//! it, and nothing in it is overwritten.

mod net_helpers;
mod state_helpers;

use std::path::Path;
use std::time::Duration;

use kademlua::id::Id;
use kademlua::net::SpawnError;
use kademlua::state::StateError;
use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use net_helpers::{Stranger, run};
use state_helpers::{Files, Folder, missing, start, store};

const VALUES: usize = 60;
const LOG: &str = "state.1.log";
const MARK: &str = "state.mark";
const MARK_BYTES: usize = 56;

/// A state with its values, as a killed node leaves it, and as a stopped one does.
async fn states(folder: &Path) -> (Id, [(&'static str, Files); 2]) {
    let node = start(folder).unwrap();
    let mut stranger = Stranger::new();
    // Several batches, so that there is one to be cut off.
    for number in 0..VALUES {
        store(&mut stranger, node.local_addr(), number);
        if number % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = Files::of(folder);
    node.stop().await;
    (node.id(), [("killed", killed), ("stopped", Files::of(folder))])
}

/// Whether a node refuses the state in the folder. If not, it must have all that was kept.
async fn refuses(folder: &Path, id: Id, what: &str) -> bool {
    let before = Files::of(folder);
    match start(folder) {
        Ok(node) => {
            assert_eq!(node.id(), id, "{what}");
            assert_eq!(missing(&node, VALUES).await, [0; 0], "{what}");
            assert_eq!(node.state().unwrap().problem, None, "{what}");
            node.stop().await;
            false
        }
        Err(SpawnError::State(error @ (StateError::Damaged { .. } | StateError::Version(_)))) => {
            assert!(error.to_string().contains(folder.to_str().unwrap()), "{what}: {error}");
            assert!(Files::of(folder) == before, "{what}: something was changed");
            true
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// A place in a file, more often than not one that was written to.
fn place(bytes: &[u8], rng: &mut impl Rng) -> usize {
    let mut at = rng.random_range(0..bytes.len());
    for _ in 0..rng.random_range(0..1_000) {
        if bytes[at] != 0 {
            break;
        }
        at = rng.random_range(0..bytes.len());
    }
    at
}

fn seed() -> u64 {
    match std::env::var("KADEMLUA_SEED") {
        Ok(seed) => seed.parse().expect("KADEMLUA_SEED is a number"),
        Err(_) => getrandom::u64().unwrap(),
    }
}

#[test]
fn flipped_bits_are_never_reported_as_success() {
    let seed = seed();
    eprintln!("replay: KADEMLUA_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = Folder::in_memory("flips");
    run(async {
        let (id, states) = states(&folder.0).await;
        for (name, state) in states {
            state.put_back(&folder.0);
            assert!(!refuses(&folder.0, id, name).await);
            let len = state.clone().get(LOG).len();
            // The beginning, then anywhere.
            let header = (0..320).step_by(if name == "killed" { 1 } else { 4 }).map(Some);
            let mut refused = 0;
            for at in header.chain([None; 80]) {
                let mut damaged = state.clone();
                let bytes = damaged.get(LOG);
                let at = at.unwrap_or_else(|| place(bytes, &mut rng));
                let bit = rng.random_range(0..8);
                bytes[at] ^= 1 << bit;
                damaged.put_back(&folder.0);
                let what = format!("seed {seed}, {name}, bit {bit} of byte {at} of {len}");
                refused += usize::from(refuses(&folder.0, id, &what).await);
            }
            assert!(refused > 20, "{refused} were noticed");
            for at in 0..MARK_BYTES {
                let mut damaged = state.clone();
                damaged.get(MARK)[at] ^= 1 << rng.random_range(0..8);
                damaged.put_back(&folder.0);
                assert!(refuses(&folder.0, id, &format!("{name}, mark {at}")).await);
            }
        }
    });
}

#[test]
fn what_was_cut_off_is_never_reported_as_success() {
    let seed = seed();
    eprintln!("replay: KADEMLUA_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = Folder::in_memory("cuts");
    run(async {
        let (id, states) = states(&folder.0).await;
        for (name, state) in states {
            let len = state.clone().get(LOG).len();
            let random = (0..40).map(|_| rng.random_range(0..len)).collect::<Vec<_>>();
            for left in [0, 1, 9, 64, 320, 4_096, len - 1].into_iter().chain(random) {
                let mut damaged = state.clone();
                damaged.get(LOG).truncate(left);
                damaged.put_back(&folder.0);
                let what = format!("seed {seed}, {name}, {left} of {len} bytes");
                refuses(&folder.0, id, &what).await;
                if left < 4_096 {
                    assert!(refuses(&folder.0, id, &what).await, "{what}");
                }
            }
            for left in 0..MARK_BYTES {
                let mut damaged = state.clone();
                damaged.get(MARK).truncate(left);
                damaged.put_back(&folder.0);
                assert!(refuses(&folder.0, id, &format!("{name}, {left} of the mark")).await);
            }
            for gone in [LOG, MARK] {
                state.put_back(&folder.0);
                std::fs::remove_file(folder.0.join(gone)).unwrap();
                assert!(refuses(&folder.0, id, &format!("{name}, no {gone}")).await);
            }
        }
    });
}

#[test]
fn an_older_log_beside_a_newer_mark_is_never_reported_as_success() {
    let folder = Folder::in_memory("older");
    run(async {
        let node = start(&folder.0).unwrap();
        let mut older = Files::of(&folder.0);
        store(&mut Stranger::new(), node.local_addr(), 0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.stop().await;
        let mut mixed = Files::of(&folder.0);
        *mixed.get(LOG) = older.get(LOG).clone();
        mixed.put_back(&folder.0);
        assert!(refuses(&folder.0, node.id(), "an older log").await);
    });
}

#[test]
fn a_damaged_state_is_an_error_that_says_what_to_do() {
    let folder = Folder::in_memory("words");
    run(async {
        start(&folder.0).unwrap().stop().await;
        std::fs::write(folder.0.join(LOG), "no log").unwrap();
        let error = start(&folder.0).unwrap_err().to_string();
        let path = folder.0.display();
        assert!(error.starts_with(&format!("the state in {path} is damaged (")), "{error}");
        assert!(error.ends_with("Put a copy of the folder back, or move it away to begin anew"));
    });
}
