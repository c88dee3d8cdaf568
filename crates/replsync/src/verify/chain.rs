//! One file over several threads: stretches are checked in any order, and put together in the order of the file.
//!
//! What comes out is what one thread would find: a stretch counts when it begins exactly where the one before it ended,
//! in the same database. Where the [scout](super::scout) was wrong, what lies behind is checked again from the right place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Options;
use super::scout::{Cut, SEGMENT_BYTES, Scout};
use super::segment::{Plan, Segment, Wanted, check};
use super::whole::Whole;
use crate::files::RdbFile;
use crate::rdb::{Limits, Place};

/// Stretches that may be under way or wait, for each thread.
const AHEAD: usize = 4;
/// After the scout was wrong it goes item by item for so many stretches, each time twice as many.
const CAREFUL_SEGMENTS: u64 = 2;

/// Checks `file` from `start` on with so many threads.
pub fn check_over(file: &RdbFile, wanted: Wanted<'_>, start: Place, options: &Options, whole: &mut Whole) {
    let (scout_file, limits) = (file.uncounted(), options.limits);
    let plan = Chain {
        whole,
        frontier: start,
        planned: VecDeque::new(),
        waiting: VecDeque::new(),
        done: BTreeMap::new(),
        scout: Some(Box::new(Scout::new(&scout_file, limits, start, 0))),
        scout_at: Some(start),
        careful_segments: CAREFUL_SEGMENTS,
        finished: false,
    };
    let shared = Shared { chain: Mutex::new(plan), turn: Condvar::new(), plan: AtomicU64::new(0) };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| shared.work(file, &scout_file, wanted, options));
        }
    });
}

struct Shared<'a> {
    chain: Mutex<Chain<'a>>,
    turn: Condvar,
    /// Which plan holds: a new one, when the scout was wrong.
    plan: AtomicU64,
}

/// Rouses the others when a thread ends, by a fault as well: then nobody waits for what it will not deliver.
struct Rouser<'a, 'b>(&'a Shared<'b>);

impl Drop for Rouser<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().finished = true;
        self.0.turn.notify_all();
    }
}

struct Chain<'a> {
    whole: &'a mut Whole,
    /// Up to here the file is known.
    frontier: Place,
    /// Where the stretches begin that were given out and are not part of `whole` yet.
    planned: VecDeque<Place>,
    waiting: VecDeque<Stretch>,
    done: BTreeMap<u64, Segment>,
    /// Away while it scouts.
    scout: Option<Box<Scout>>,
    /// Where the next stretch begins; nothing when the last one was given out.
    scout_at: Option<Place>,
    careful_segments: u64,
    finished: bool,
}

#[derive(Clone, Copy)]
struct Stretch {
    start: Place,
    stop: u64,
}

enum Task {
    Check(Stretch),
    Scout(Box<Scout>, Place),
}

impl<'a> Shared<'a> {
    fn work(&self, file: &RdbFile, scout_file: &RdbFile, wanted: Wanted<'_>, options: &Options) {
        let (mut checker, limits, ahead) = (options.checker(), options.limits, AHEAD * options.jobs);
        let _rouser = Rouser(self);
        while let Some((task, own)) = self.next_task(ahead) {
            match task {
                Task::Check(stretch) => {
                    let plan = Plan { current: &self.plan, own };
                    let mut reader = file.reader_at(limits, stretch.start);
                    let segment = check(&mut reader, &mut checker, stretch.stop, wanted, &plan);
                    let mut chain = self.lock();
                    if !plan.is_void() && chain.take(stretch.start, segment) {
                        self.start_anew(&mut chain, scout_file, limits);
                    }
                }
                Task::Scout(mut scout, start) => {
                    let cut = scout.next_cut();
                    let mut chain = self.lock();
                    if self.plan.load(Ordering::Relaxed) == own {
                        chain.give_out(start, cut, scout);
                    }
                }
            }
            self.turn.notify_all();
        }
    }

    /// What is to be done next, and for which plan; nothing at the end.
    fn next_task(&self, ahead: usize) -> Option<(Task, u64)> {
        let mut chain = self.lock();
        loop {
            if chain.finished {
                return None;
            }
            if let Some(task) = chain.task(ahead) {
                return Some((task, self.plan.load(Ordering::Relaxed)));
            }
            chain = self.turn.wait(chain).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Everything behind the frontier again: the scout was wrong.
    fn start_anew(&self, chain: &mut Chain<'_>, scout_file: &RdbFile, limits: Limits) {
        self.plan.fetch_add(1, Ordering::Relaxed);
        chain.planned.clear();
        chain.waiting.clear();
        chain.done.clear();
        let from = chain.frontier;
        let careful_until = from.offset.saturating_add(chain.careful_segments.saturating_mul(SEGMENT_BYTES));
        chain.careful_segments = chain.careful_segments.saturating_mul(2);
        chain.scout = Some(Box::new(Scout::new(scout_file, limits, from, careful_until)));
        chain.scout_at = Some(from);
    }

    /// A thread that panicked is answered for by the scope.
    fn lock(&self) -> MutexGuard<'_, Chain<'a>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chain<'_> {
    /// Checking comes first; the scout goes ahead when nothing waits, and not too far.
    fn task(&mut self, ahead: usize) -> Option<Task> {
        if let Some(stretch) = self.waiting.pop_front() {
            return Some(Task::Check(stretch));
        }
        let start = self.scout_at.filter(|_| self.planned.len() < ahead)?;
        Some(Task::Scout(self.scout.take()?, start))
    }

    fn give_out(&mut self, start: Place, cut: Cut, scout: Box<Scout>) {
        let (stop, next) = match cut {
            Cut::At(place) => (place.offset, Some(place)),
            Cut::None => (u64::MAX, None),
        };
        self.planned.push_back(start);
        self.waiting.push_back(Stretch { start, stop });
        self.scout_at = next;
        self.scout = Some(scout);
    }

    /// Takes what was found from `start` on, and appends what can be. Whether the scout turned out to be wrong.
    fn take(&mut self, start: Place, segment: Segment) -> bool {
        self.done.insert(start.offset, segment);
        while let Some(start) = self.planned.front().copied()
            && start == self.frontier
            && let Some(segment) = self.done.remove(&start.offset)
        {
            self.planned.pop_front();
            match self.whole.append(start, segment) {
                Some(next) => self.frontier = next,
                None => {
                    self.finished = true;
                    return false;
                }
            }
        }
        self.planned.front().or(self.scout_at.as_ref()).is_some_and(|next| *next != self.frontier)
    }
}
