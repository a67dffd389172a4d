//! Ends the run of the tests when one of them does not end by itself, and says which. Otherwise nobody would ever hear.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Many times what the longest takes.
const PATIENCE: Duration = Duration::from_mins(12);

static RUNNING: LazyLock<Mutex<HashMap<u64, (String, Instant)>>> = LazyLock::new(|| {
    thread::spawn(watch);
    Mutex::default()
});

/// A test that runs for as long as this lives. The thread it was made on has the name of the test.
pub struct Watched(u64);

impl Watched {
    #[must_use]
    pub fn new() -> Self {
        let mut running = running();
        let id = running.keys().max().map_or(0, |last| last + 1);
        let name = thread::current().name().unwrap_or("a test").to_owned();
        running.insert(id, (name, Instant::now()));
        Self(id)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

fn running() -> MutexGuard<'static, HashMap<u64, (String, Instant)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let late = running();
        let mut late = late
            .values()
            .filter(|(_, began)| began.elapsed() > PATIENCE);
        if let Some((name, _)) = late.next() {
            eprintln!("{name} does not end: after {PATIENCE:?} the tests are given up");
            std::process::exit(1);
        }
    }
}
