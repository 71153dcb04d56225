//! What one input may cost. Every fuzz target does its work within [`bounded`], which fails when an input costs more time or
//! memory than its size accounts for.
//!
//! Memory that C code takes is not counted here; libFuzzer's own limit (`-rss_limit_mb`) covers it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Counts what is allocated, and the most that ever was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn grown(size: usize) {
        let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(held, Ordering::Relaxed);
    }
}

// SAFETY: all memory is the system allocator's; only its sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks exist while one is copied to the other.
        Self::grown(size);
        let moved = unsafe { System.realloc(pointer, layout, size) };
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        moved
    }
}

/// Bytes that are held now.
pub fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// What an input may cost: a fixed part, and a part for each of its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes held at once, beside a hundredfold of the input.
    pub memory: usize,
    /// CPU time, beside [`Bounds::PER_BYTE`].
    pub time: Duration,
}

impl Bounds {
    /// A request may hold a hundredfold of its size (SECURITY.md).
    pub const FOLD: usize = 100;
    /// Generous, because the build is instrumented: what this finds is work that grows faster than the input.
    pub const PER_BYTE: Duration = Duration::from_micros(20);
    /// For an XML body of up to 64 KiB, whatever its size: 50 ms where the build is optimised and not instrumented.
    pub const BODY: Self = Self { memory: 64 * 1024 * 1024, time: Duration::from_millis(Self::BODY_MS) };
    const BODY_MS: u64 = match (cfg!(debug_assertions), cfg!(fuzzing)) {
        (true, _) => 500,
        (false, true) => 150,
        (false, false) => 50,
    };
    /// For one request or document.
    pub const USUAL: Self = Self { memory: 1024 * 1024, time: Duration::from_millis(100) };
    /// For what an operator writes, which is compiled: schemas, patterns, TLS.
    pub const COMPILED: Self = Self { memory: 64 * 1024 * 1024, time: Duration::from_secs(2) };

    fn allow(&self, cost: Cost, size: usize) -> bool {
        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
        cost.memory <= self.memory + Self::FOLD * size && cost.time <= self.time + Self::PER_BYTE * bytes
    }
}

/// What an input did cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    memory: usize,
    time: Duration,
}

/// Does the work for an input of `size` bytes.
///
/// # Panics
/// If it costs more than `bounds` twice in a row: what is made once, such as a table, counts only the first time.
pub fn bounded<T>(bounds: Bounds, size: usize, work: impl Fn() -> T) -> T {
    let (done, cost) = measured(&work);
    if bounds.allow(cost, size) {
        return done;
    }
    let (done, cost) = measured(&work);
    assert!(bounds.allow(cost, size), "{size} bytes cost {cost:?}; {bounds:?}");
    done
}

fn measured<T>(work: impl Fn() -> T) -> (T, Cost) {
    let held = HELD.load(Ordering::Relaxed);
    PEAK.store(held, Ordering::Relaxed);
    let before = cpu();
    let done = work();
    let time = cpu().saturating_sub(before);
    (done, Cost { memory: PEAK.load(Ordering::Relaxed).saturating_sub(held), time })
}

/// CPU time of all threads, because bodies may be judged on another. Unlike the time of a clock, it does not depend on what
/// else the machine does.
fn cpu() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the result.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    assert_eq!(failed, 0, "there is no clock of CPU time");
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}
