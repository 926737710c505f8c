//! An allocator that counts, for tests of allocations.
#![allow(dead_code, reason = "no test needs all of it")]
#![expect(unsafe_code, reason = "counting allocations takes an allocator, whose trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Allocations of this thread alone; the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes asked for in these, whether or not they were given back.
    static BYTES: Cell<usize> = const { Cell::new(0) };
    /// Bytes that were not given back yet.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// What the system's allocator takes for these.
    static TAKEN: Cell<isize> = const { Cell::new(0) };
}

/// As glibc has it on 64 bits: a word before each piece, pieces of a multiple of 16 bytes, 32 at least.
fn taken(bytes: usize) -> isize {
    (bytes + 8).next_multiple_of(16).max(32) as isize
}

struct Counting;

fn count(bytes: usize) {
    // A thread that is ending has no counter any more and nothing to count.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    let _ = BYTES.try_with(|count| count.set(count.get() + bytes));
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes as isize));
    let _ = TAKEN.try_with(|all| all.set(all.get() + taken(bytes)));
}

fn uncount(bytes: usize) {
    let _ = LIVE.try_with(|live| live.set(live.get() - bytes as isize));
    let _ = TAKEN.try_with(|all| all.set(all.get() - taken(bytes)));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        uncount(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        uncount(layout.size());
        count(size);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// How many allocations this makes.
pub(crate) fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

/// How many bytes this asks for in all.
pub(crate) fn allocated_bytes(run: impl FnOnce()) -> usize {
    let before = BYTES.get();
    run();
    BYTES.get() - before
}

/// Bytes that this thread has now, give or take those that went from thread to thread.
pub(crate) fn live_bytes() -> isize {
    LIVE.get()
}

/// What the allocator has taken from the system for [`live_bytes`], as far as one can tell.
pub(crate) fn taken_bytes() -> isize {
    TAKEN.get()
}
